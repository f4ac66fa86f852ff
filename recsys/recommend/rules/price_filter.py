"""The rule `price_factor`: keep products priced within a factor of the median price of the user's purchases.

In: prices of the catalogue, each user's purchases. Out: (m,) bool, which pairs stay.
"""

from __future__ import annotations

import logging

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.product_columns import price_array
from recsys.recommend.candidates.source import CandidatePairs
from recsys.recommend.rules.purchase_filters import purchased_pairs
from recsys.types import BoolArray, DoubleArray, IntArray

logger = logging.getLogger(__name__)


class PriceRangeFilter:
    """Removes products whose price is far from what the user usually pays.

    The reference is the median of the current prices of the distinct products bought. Users without a priced purchase
    are not restricted, and products without a price stay. The rule is soft: the backfill ignores it.
    """

    name = "price_factor"

    def __init__(self, interactions: Interactions, *, prices: DoubleArray, factor: float) -> None:
        """Take the prices (n,), NaN = none, and the factor, above 1."""
        self._interactions, self._prices, self._factor = interactions, prices, factor

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        median, price = self.median_prices(histories)[pairs.user], self._prices[pairs.item]
        # Unknown prices are NaN, and comparisons with NaN are false.
        return ~((price < median / self._factor) | (price > median * self._factor))

    def excluded_pairs(self, _: Histories) -> IntArray:
        """Return no pairs: the rule is soft."""
        return np.zeros(0, np.int64)

    def median_prices(self, histories: Histories) -> DoubleArray:
        """Compute the median price of each user's purchases: (b,), NaN where none has a price above 0."""
        keys = purchased_pairs(histories, self._interactions)
        user, price = keys // self._interactions.n_items, self._prices[keys % self._interactions.n_items]
        user, price = user[price > 0], price[price > 0]
        price = price[np.lexsort((price, user))]
        count = np.bincount(user, minlength=len(histories))
        start = np.cumsum(count) - count
        out = np.full(len(histories), np.nan)
        buyers = np.flatnonzero(count)
        low, high = start[buyers] + (count[buyers] - 1) // 2, start[buyers] + count[buyers] // 2
        out[buyers] = (price[low] + price[high]) / 2
        return out


def comparable_prices(catalogue: Catalogue) -> DoubleArray:
    """Return each product's price: (n,) float64, NaN where there is none; warn if there are several currencies."""
    frame = catalogue.frame
    has_currency = {schema.PRICE, schema.CURRENCY} <= set(frame.columns)
    if has_currency and frame[schema.CURRENCY].drop_nulls().n_unique() > 1:
        logger.warning("rules: prices are compared as numbers although the catalogue has several currencies")
    return price_array(catalogue)
