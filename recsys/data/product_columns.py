"""What the catalogue's columns say of each product, as arrays: codes of values, prices, who is new.

In: a Catalogue, interactions. Out: (n,) arrays.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.errors import ConfigError, suggestion
from recsys.types import BoolArray, DoubleArray, IntArray


def category_codes(catalogue: Catalogue, column: str, *, setting: str) -> IntArray:
    """A number for each value of a column: (n,) int64, -1 = none. `colour` also finds `attributes.colour`.

    Raises:
        ConfigError: there is no such column.
    """
    frame = catalogue.frame
    named = column if column in frame.columns else schema.ATTRIBUTE_PREFIX + column
    if named not in frame.columns:
        known = [name.removeprefix(schema.ATTRIBUTE_PREFIX) for name in frame.columns]
        hint = suggestion(column, known) or f"; there are {', '.join(known[:20])}"
        raise ConfigError(f"{setting}: unknown column '{column}'{hint}")
    values = frame[named].cast(pl.String)
    held = values.drop_nulls().unique().sort()
    if not len(held):
        return np.full(len(catalogue), -1, np.int64)
    places = pl.int_range(len(held), eager=True)
    codes = values.replace_strict(held, places, default=-1, return_dtype=pl.Int64)
    return codes.fill_null(-1).to_numpy().astype(np.int64)


def price_array(catalogue: Catalogue) -> DoubleArray:
    """Price of each product: (n,) float64, NaN where there is none."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns:
        return np.full(len(catalogue), np.nan)
    return frame[schema.PRICE].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def new_product_mask(
    catalogue: Catalogue, interactions: Interactions, *, now: int, days: float, unsold: bool = False
) -> BoolArray:
    """Which products came within the last days: by `created_at`, else by their first event; (n,) bool.

    A product with neither is new: no user has had the chance to do anything with it. With `unsold`, so is one that was
    looked at but never sold, as long as no time of creation is given.
    """
    n = len(catalogue)
    since = np.full(n, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(since, interactions.item, interactions.time)
    if unsold:
        sold = np.bincount(interactions.item[interactions.event_type == PURCHASE_CODE], minlength=n) > 0
        since[~sold] = np.iinfo(np.int64).max
    if schema.CREATED_AT in catalogue.frame.columns:
        held = catalogue.frame[schema.CREATED_AT]
        moment = held.dt.epoch("s") if held.dtype.is_temporal() else held.cast(pl.Int64)
        known = moment.is_not_null().to_numpy()
        since[known] = moment.fill_null(0).to_numpy()[known]
    return np.asarray(since >= now - days * DAY)
