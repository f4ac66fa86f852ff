"""Statistics of products and users for the ranker's features: sales, age, price, season; habits and their match.

In: catalogue, interactions before `now`, product vectors; histories. Out: feature columns.
"""

from __future__ import annotations

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.data.product_columns import category_codes, price_array
from recsys.data.schema import DAY, RETURN_CODE
from recsys.recommend.candidates.item_knn import iter_common_users, lookup
from recsys.recommend.candidates.registry import SourceContext
from recsys.recommend.candidates.source import UserBatch
from recsys.types import FloatArray, IntArray

_DAYS_PER_MONTH, _DAYS_PER_YEAR = 30.44, 365.25
_MAX_COMPARED = 10
"""Last events of a user whose products a candidate's vector is compared with."""


class ProductStatistics:
    """One value per product and statistic, computed from events before `now`.

    Attributes:
        recent_events: (n,) log(1 + events of the last days).
        total_events: (n,) log(1 + events).
        age: (n,) log(1 + days since the first event), 0 without events.
        days_since_last: (n,) log(1 + days since the last event), 0 without events.
        trend: (n,) recent_events minus the log events expected from a period four times as long.
        price: (n,) log price, nan = unknown.
        season: (n,) log ratio of the category's sales in this month of the year to its mean month; 0 without a
            category or while the events span less than a year.
        brand: (n,) int64 code, -1 = unknown.
        category: (n,) int64 code, -1 = unknown.
        variant_group: (n,) int64 code of the product it is a variant of, -1 = unknown.
        variant_events: (n,) log(1 + events of the other variants).
        content: (n, d) unit vectors.
    """

    def __init__(
        self, catalogue: Catalogue, interactions: Interactions, content: FloatArray, *, now: int, days: float
    ) -> None:
        no_return = interactions.event_type != RETURN_CODE
        item, time = interactions.item[no_return], interactions.time[no_return]
        n = interactions.n_items
        self.content, self.now = content, now
        recent_count = np.bincount(item[time >= now - days * DAY], minlength=n)
        longer_count = np.bincount(item[time >= now - 4 * days * DAY], minlength=n)
        first, last = np.full(n, now, np.int64), np.full(n, np.iinfo(np.int64).min, np.int64)
        np.minimum.at(first, item, time)
        np.maximum.at(last, item, time)
        last = np.where(last < first, now, last)
        self.recent_events = np.log1p(recent_count).astype(np.float32)
        self.total_events = np.log1p(np.bincount(item, minlength=n)).astype(np.float32)
        self.age = np.log1p(np.maximum(now - first, 0) / DAY).astype(np.float32)
        self.days_since_last = np.log1p(np.maximum(now - last, 0) / DAY).astype(np.float32)
        self.trend = (np.log1p(recent_count) - np.log1p(longer_count / 4)).astype(np.float32)
        self.price = _log_price(catalogue)
        self.brand, self.category = _column_codes(catalogue, schema.BRAND), _column_codes(catalogue, schema.CATEGORY)
        self.variant_group = _column_codes(catalogue, schema.GROUP_ID)
        self.variant_events = self._variant_events(np.bincount(item, minlength=n))
        self.season = self._seasonal_lift(item, time)

    def product_features(self, item: IntArray) -> list[FloatArray]:
        """Return the columns of `features` that depend on the product alone."""
        total_events = self.total_events[item]
        return [
            self.recent_events[item],
            total_events,
            (total_events == 0).astype(np.float32),
            self.age[item],
            self.days_since_last[item],
            self.trend[item],
            np.nan_to_num(self.price[item]),
            self.season[item],
            self.variant_events[item],
        ]

    def _variant_events(self, events: IntArray) -> FloatArray:
        """Return log(1 + events of a product's other variants), which informs about a product without events."""
        total = np.bincount(self.variant_group + 1, events, minlength=int(self.variant_group.max(initial=-1)) + 2)
        out: FloatArray = np.log1p(np.where(self.variant_group >= 0, total[self.variant_group + 1] - events, 0)).astype(
            np.float32
        )
        return out

    def _seasonal_lift(self, item: IntArray, time: IntArray) -> FloatArray:
        """Return the log of the category's events in this month of all years over its mean month: (n,)."""
        n = len(self.category)
        if not len(time) or self.now - int(time.min()) < _DAYS_PER_YEAR * DAY:
            return np.zeros(n, np.float32)
        code = self.category + 1
        n_codes = int(code.max(initial=0)) + 1
        # Distance within the year, in days: half a month on either side belongs to this month.
        distance = np.abs(((self.now - time) / DAY + _DAYS_PER_YEAR / 2) % _DAYS_PER_YEAR - _DAYS_PER_YEAR / 2)
        this_month = np.bincount(code[item[distance <= _DAYS_PER_MONTH / 2]], minlength=n_codes)
        total = np.bincount(code[item], minlength=n_codes)
        lift: FloatArray = np.log((1 + this_month) / (1 + total * _DAYS_PER_MONTH / _DAYS_PER_YEAR)).astype(np.float32)
        lift[0] = 0  # products without a category
        return lift[code]


class UserStatistics:
    """Statistics of the users of a batch, from their histories.

    Attributes:
        history_length: (b,) log(1 + events of the history).
    """

    def __init__(self, users: UserBatch, products: ProductStatistics) -> None:
        self._users, self._products = users, products
        histories = users.histories
        event_mask, items = histories.mask, histories.items
        count = event_mask.sum(axis=1)
        self.history_length = np.log1p(count).astype(np.float32)
        ordered = np.sort(np.where(event_mask, items, -1), axis=1)
        n_distinct = ((np.diff(ordered, axis=1) != 0) & (ordered[:, 1:] >= 0)).sum(axis=1) + (ordered[:, 0] >= 0)
        self._distinct_share = (n_distinct / np.maximum(count, 1)).astype(np.float32)
        newest = histories.times.max(axis=1, initial=0)
        self._days_away = np.where(count > 0, np.log1p(np.maximum(users.now - newest, 0) / DAY), 0).astype(np.float32)
        price = np.where(event_mask, products.price[items], np.nan)
        has_price = np.isfinite(price).any(axis=1)
        self._median_price, self._price_std = np.full(len(users), np.nan, np.float32), np.zeros(len(users), np.float32)
        if has_price.any():
            self._median_price[has_price] = np.nanmedian(price[has_price], axis=1)
            self._price_std[has_price] = np.nanstd(price[has_price], axis=1)

    def user_features(self, user: IntArray) -> list[FloatArray]:
        """Return the columns of `features` that depend on the user alone."""
        columns = (
            self.history_length,
            self._distinct_share,
            self._days_away,
            np.nan_to_num(self._median_price),
            self._price_std,
        )
        return [column[user] for column in columns]

    def user_item_features(self, user: IntArray, item: IntArray) -> list[FloatArray]:
        """Return the columns that depend on both: vector similarity, same brand and category, price, past purchases."""
        products, histories = self._products, self._users.histories
        items = histories.items[:, -_MAX_COMPARED:]
        similarity = np.zeros((3, len(user)), np.float32)
        for position, _, pairs in iter_common_users(len(histories), np.nonzero(items >= 0)[0], user):
            cosine = products.content[item[pairs]] @ products.content[items[position][items[position] >= 0]].T
            similarity[:, pairs] = cosine[:, -1], cosine.max(axis=1), cosine.mean(axis=1)
        price_gap = np.nan_to_num(products.price[item] - self._median_price[user]).astype(np.float32)
        return [
            *similarity,
            self._same_code_share(products.brand, user, item),
            self._same_code_share(products.category, user, item),
            self._same_code_share(products.variant_group, user, item),
            self._same_code_recency(products.variant_group, user, item),
            price_gap,
            np.abs(price_gap),
            self._repeat_count(user, item),
        ]

    def _same_code_share(self, code: IntArray, user: IntArray, item: IntArray) -> FloatArray:
        """Return the share of the user's events whose product has the item's code; 0 where the item has none."""
        histories = self._users.histories
        event_mask = histories.mask
        row, column = np.nonzero(event_mask)
        event_code = code[histories.items[row, column]]
        n_codes = int(code.max(initial=-1)) + 2
        keys, n_events = np.unique(row * n_codes + event_code + 1, return_counts=True)
        queries = user * n_codes + code[item] + 1
        same_code = np.where(code[item] >= 0, lookup(keys, n_events, queries), 0)
        share: FloatArray = (same_code / np.maximum(event_mask.sum(axis=1), 1)[user]).astype(np.float32)
        return share

    def _same_code_recency(self, code: IntArray, user: IntArray, item: IntArray) -> FloatArray:
        """Return 1 / (1 + events since the newest one with the item's code); 0 where there is none."""
        histories = self._users.histories
        row, column = np.nonzero(histories.mask)
        # By user, newest first: the first of each code is its newest.
        row, column = row[::-1], column[::-1]
        n_codes = int(code.max(initial=-1)) + 2
        keys, first = np.unique(row * n_codes + code[histories.items[row, column]] + 1, return_index=True)
        n_newer = histories.items.shape[1] - 1 - column[first]
        recency = lookup(keys, 1 / (1 + n_newer), user * n_codes + code[item] + 1)
        return np.where(code[item] >= 0, recency, 0).astype(np.float32)

    def _repeat_count(self, user: IntArray, item: IntArray) -> FloatArray:
        """Return log(1 + events of the product in the user's history)."""
        histories = self._users.histories
        row, column = np.nonzero(histories.mask)
        n = len(self._products.price)
        keys, n_events = np.unique(row * n + histories.items[row, column], return_counts=True)
        count = lookup(keys, n_events, user * n + item)
        return np.log1p(count.astype(np.float64)).astype(np.float32)


def _log_price(catalogue: Catalogue) -> FloatArray:
    """Return the log of each price, nan where there is none: (n,)."""
    price = price_array(catalogue)
    largest = float(np.finfo(np.float32).max)  # a larger number would be infinite, and differences of it no number
    positive_price: FloatArray = np.where(price > 0, np.minimum(price, largest), np.nan).astype(np.float32)
    return np.log(positive_price)


def _column_codes(catalogue: Catalogue, column: str) -> IntArray:
    """Return an integer code per value of a column, -1 = none or no such column: (n,)."""
    if column not in catalogue.frame.columns:
        return np.full(len(catalogue), -1, np.int64)
    return category_codes(catalogue, column, setting="ranker")


def build_product_statistics(context: SourceContext) -> ProductStatistics:
    """Compute the statistics of the products at `now` of the context."""
    return ProductStatistics(
        context.catalogue, context.interactions, context.content, now=context.now, days=context.recommend.popular_days
    )
