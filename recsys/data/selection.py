"""Which products belong to the catalogue by the setting `data.catalogue`, before any event is considered.

In: availability and image hashes of the products, the setting. Out: (n,) bool; all other products belong to the
catalogue only once they have an event.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import BoolArray


def selected_without_events(available: pl.Series, image_hashes: pl.Series, catalogue_setting: str) -> BoolArray:
    """Mark the products that the setting includes even if they have no event: (n,) bool.

    Args:
        available: (n,) availability, null = unknown.
        image_hashes: (n,) hashes, null = no image.
        catalogue_setting: `data.catalogue`.
    """
    if catalogue_setting == "all":
        return np.ones(len(available), np.bool_)
    belongs = image_hashes.is_not_null()
    if catalogue_setting == "auto":
        belongs |= available.is_not_null()
    return belongs.to_numpy().astype(np.bool_)


def listed_without_events(catalogue: Catalogue, catalogue_setting: str) -> BoolArray:
    """Mark the products of a loaded catalogue that belong to it even without an event: (n,) bool.

    A catalogue that was made from a frame without availability and images has no such products to leave out.
    """
    frame, n = catalogue.frame, len(catalogue)
    if not {schema.AVAILABLE, schema.IMAGE_HASH} & set(frame.columns):
        return np.ones(n, np.bool_)
    nothing = pl.repeat(None, n, dtype=pl.Boolean, eager=True)
    available, hashes = (
        frame[name] if name in frame.columns else nothing for name in (schema.AVAILABLE, schema.IMAGE_HASH)
    )
    return selected_without_events(available, hashes, catalogue_setting)
