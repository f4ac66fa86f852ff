"""Arrays derived from catalogue columns: category codes, prices, and which products are new.

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
    """Encode the values of a column as integers: (n,) int64, -1 = none; `colour` also finds `attributes.colour`.

    Raises:
        ConfigError: there is no such column.
    """
    frame = catalogue.frame
    name = column if column in frame.columns else schema.ATTRIBUTE_PREFIX + column
    if name not in frame.columns:
        available = [other.removeprefix(schema.ATTRIBUTE_PREFIX) for other in frame.columns]
        hint = suggestion(column, available) or f"; there are {', '.join(available[:20])}"
        raise ConfigError(f"{setting}: unknown column '{column}'{hint}")
    values = frame[name].cast(pl.String)
    distinct = values.drop_nulls().unique().sort()
    if not len(distinct):
        return np.full(len(catalogue), -1, np.int64)
    code_range = pl.int_range(len(distinct), eager=True)
    codes = values.replace_strict(distinct, code_range, default=-1, return_dtype=pl.Int64)
    return codes.fill_null(-1).to_numpy().astype(np.int64)


def price_array(catalogue: Catalogue) -> DoubleArray:
    """Return the price of each product: (n,) float64, NaN where there is none."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns:
        return np.full(len(catalogue), np.nan)
    return frame[schema.PRICE].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def new_product_mask(
    catalogue: Catalogue, interactions: Interactions, *, now: int, days: float, unsold: bool = False
) -> BoolArray:
    """Return which products are at most `days` old, by `created_at`, else by their first event: (n,) bool.

    A product with neither is new, since no user had a chance to interact with it. With `unsold`, a product without a
    purchase is new too, as long as it has no `created_at`.
    """
    n = len(catalogue)
    first_seen = np.full(n, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(first_seen, interactions.item, interactions.time)
    if unsold:
        sold = np.bincount(interactions.item[interactions.event_type == PURCHASE_CODE], minlength=n) > 0
        first_seen[~sold] = np.iinfo(np.int64).max
    if schema.CREATED_AT in catalogue.frame.columns:
        column = catalogue.frame[schema.CREATED_AT]
        created = column.dt.epoch("s") if column.dtype.is_temporal() else column.cast(pl.Int64)
        has_date = created.is_not_null().to_numpy()
        first_seen[has_date] = created.fill_null(0).to_numpy()[has_date]
    return np.asarray(first_seen >= now - days * DAY)
