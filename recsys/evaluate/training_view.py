"""What a system may know at the moment it is judged for: events before it, and products that were there.

In: the catalogue of today, the events that may be learned from, the cut. Out: `TrainingView`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.evaluate.slices import creation_times
from recsys.types import BoolArray


@dataclass(frozen=True)
class TrainingView:
    """What may be learned from.

    Attributes:
        catalogue: n products of today.
        train: events that may be learned from, on the rows of `catalogue`.
        now: UTC seconds, the moment the lists are for.
        known: (n,) bool, products that were there at the cut. Of the others nothing is learned, neither words nor
            vocabulary nor groups; what they are like may be looked at to list them.
        seed: for systems that draw.
    """

    catalogue: Catalogue
    train: Interactions
    now: int
    known: BoolArray
    seed: int = 0

    @staticmethod
    def of(catalogue: Catalogue, train: Interactions, *, now: int, cut: int | None, seed: int = 0) -> TrainingView:
        """Leave out what was created from `cut` on and has no event before; None = there is no such moment.

        A product without a date of creation is taken to have been there: that it was not bought before says little.
        """
        known = np.ones(len(catalogue), np.bool_)
        if cut is not None:
            known = ~(creation_times(catalogue) >= cut) | (train.counts() > 0)
        return TrainingView(catalogue, train, now, known, seed)

    def without_new_products(self) -> tuple[Catalogue, Interactions]:
        """The shop without the products that were not there: rows are places among the `known`."""
        if self.known.all():
            return self.catalogue, self.train
        kept = np.flatnonzero(self.known)
        frame, pictures = self.catalogue.frame[kept.tolist()], self.catalogue.images
        catalogue = Catalogue(
            IdMap(self.catalogue.ids.ids(kept)),
            frame,
            self.catalogue.sellable[kept].copy(),
            Images(pictures.pixels, pictures.rows[kept]),
        )
        place = np.cumsum(self.known) - 1
        events = Interactions.from_events(
            user=self.train.user,
            item=place[self.train.item],
            time=self.train.time,
            kind=self.train.event_type,
            weight=self.train.weight,
            n_users=self.train.n_users,
            n_items=len(kept),
        )
        return catalogue, events

    def with_blank_new_texts(self) -> Catalogue:
        """The catalogue with the texts of the products that were not there left blank, so that no word is counted."""
        if self.known.all():
            return self.catalogue
        known = pl.Series(self.known)
        texts = [name for name, kind in self.catalogue.frame.schema.items() if kind == pl.String]
        blank = [pl.when(known).then(pl.col(name)).alias(name) for name in texts if name != schema.PRODUCT_ID]
        return dataclasses.replace(self.catalogue, frame=self.catalogue.frame.with_columns(blank))
