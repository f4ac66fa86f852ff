"""Products in two parts: what may be learned from, and what is asked about.

In: catalogues and labels. Out: `Part`, `Divided`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.types import IntArray

Labels = dict[str, npt.NDArray[np.object_]]


@dataclass(frozen=True)
class Part:
    """Some products: the catalogue a model may see, and labels (n,) by name that it may not."""

    catalogue: Catalogue
    labels: Labels

    def __len__(self) -> int:
        return len(self.catalogue)

    @property
    def pictured(self) -> IntArray:
        """Rows with a picture."""
        return np.flatnonzero(self.catalogue.images.present)

    @property
    def texts(self) -> list[str]:
        """Title and description of each product."""
        frame = self.catalogue.frame
        held = [pl.col(name) for name in (schema.TITLE, schema.DESCRIPTION) if name in frame.columns]
        joined = frame.select(pl.concat_str(held, separator=". ", ignore_nulls=True)).to_series()
        return joined.fill_null("").to_list()

    def take(self, rows: npt.NDArray[np.integer]) -> Part:
        """The products of some rows, in that order."""
        return Part(taken(self.catalogue, rows), {name: values[rows] for name, values in self.labels.items()})


@dataclass(frozen=True)
class Divided:
    """Products that may be learned from, and products held back that are asked about."""

    train: Part
    test: Part

    @property
    def nobody(self) -> Interactions:
        """No purchase of the products to learn from."""
        none = np.zeros(0, np.int64)
        return Interactions.from_events(user=none, item=none, time=none, n_users=0, n_items=len(self.train))


def taken(catalogue: Catalogue, rows: npt.NDArray[np.integer]) -> Catalogue:
    """The products of some rows, in that order."""
    return Catalogue(
        IdMap(catalogue.ids.ids(rows)),
        catalogue.frame[rows.tolist()],
        catalogue.sellable[rows],
        Images(catalogue.images.pixels, catalogue.images.rows[rows]),
    )
