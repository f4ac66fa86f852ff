"""The price band of each user: from so many times less to so many times more than the median of what was bought.

In: prices of the catalogue, what each user bought. Out: (m,) bool, which pairs stay.
"""

from __future__ import annotations

import logging

import numpy as np

from recsys.data import product_columns as columns
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.recommend.candidates.source import CandidatePairs
from recsys.recommend.rules.purchase_filters import purchased_pairs
from recsys.types import BoolArray, DoubleArray, IntArray

logger = logging.getLogger(__name__)


class PriceRangeFilter:
    """Products whose price is far from what the user usually pays.

    What counts is the median of today's prices of the distinct products bought. Users none of whose products has a
    price are not restricted, and products without a price stay. The rule is soft: the fallback does not know it.
    """

    name = "price_factor"

    def __init__(self, interactions: Interactions, *, prices: DoubleArray, factor: float) -> None:
        """`prices` (n,), NaN = none; `factor` above 1."""
        self._interactions, self._prices, self._factor = interactions, prices, factor

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        middle, price = self.medians(histories)[pairs.user], self._prices[pairs.item]
        # Whatever is unknown is NaN, and NaN compares as false.
        return ~((price < middle / self._factor) | (price > middle * self._factor))

    def excluded_items(self, _: Histories) -> IntArray:
        """Nothing: the rule is soft."""
        return np.zeros(0, np.int64)

    def medians(self, histories: Histories) -> DoubleArray:
        """Median price of what each user bought: (b,), NaN where nothing bought has a price above 0."""
        keys = purchased_pairs(histories, self._interactions)
        user, price = keys // self._interactions.n_items, self._prices[keys % self._interactions.n_items]
        user, price = user[price > 0], price[price > 0]
        price = price[np.lexsort((price, user))]
        count = np.bincount(user, minlength=len(histories))
        start = np.cumsum(count) - count
        out = np.full(len(histories), np.nan)
        some = np.flatnonzero(count)
        low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
        out[some] = (price[low] + price[high]) / 2
        return out


def prices_of(catalogue: Catalogue) -> DoubleArray:
    """Price of each product: (n,) float64, NaN where there is none; a catalogue of several currencies is warned of."""
    frame = catalogue.frame
    priced = {schema.PRICE, schema.CURRENCY} <= set(frame.columns)
    if priced and frame[schema.CURRENCY].drop_nulls().n_unique() > 1:
        logger.warning("rules: prices are compared as numbers although the catalogue has several currencies")
    return columns.price_array(catalogue)
