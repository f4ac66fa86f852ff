"""What is known of products and users when lists are made: sales, age, price, season; habits and what fits them.

In: catalogue, interactions before `now`, product vectors; histories. Out: columns of features.
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

_MONTH, _YEAR = 30.44, 365.25
_LAST = 10
"""Products of a user that a candidate is compared with."""


class ProductStatistics:
    """One number a product, each known before `now`.

    Attributes:
        lately: (n,) log(1 + events of the last days).
        ever: (n,) log(1 + events).
        age: (n,) log(1 + days since the first event), 0 where there is none.
        quiet: (n,) log(1 + days since the last event), 0 where there is none.
        trend: (n,) lately, less what four times as many days would lead to expect.
        price: (n,) log price, nan = unknown.
        season: (n,) log of how much more than on average its category sells in this month of the year; 0 while the
            log is shorter than a year, and without a category.
        brand: (n,) int64 code, -1 = unknown.
        category: (n,) int64 code, -1 = unknown.
        group: (n,) int64 code of the product it is a variant of, -1 = unknown.
        kin: (n,) log(1 + events of the other variants).
        content: (n, d) unit vectors.
    """

    def __init__(
        self, catalogue: Catalogue, interactions: Interactions, content: FloatArray, *, now: int, days: float
    ) -> None:
        kept = interactions.event_type != RETURN_CODE
        item, time = interactions.item[kept], interactions.time[kept]
        n = interactions.n_items
        self.content, self.now = content, now
        fresh = np.bincount(item[time >= now - days * DAY], minlength=n)
        longer = np.bincount(item[time >= now - 4 * days * DAY], minlength=n)
        first, last = np.full(n, now, np.int64), np.full(n, np.iinfo(np.int64).min, np.int64)
        np.minimum.at(first, item, time)
        np.maximum.at(last, item, time)
        last = np.where(last < first, now, last)
        self.lately = np.log1p(fresh).astype(np.float32)
        self.ever = np.log1p(np.bincount(item, minlength=n)).astype(np.float32)
        self.age = np.log1p(np.maximum(now - first, 0) / DAY).astype(np.float32)
        self.quiet = np.log1p(np.maximum(now - last, 0) / DAY).astype(np.float32)
        self.trend = (np.log1p(fresh) - np.log1p(longer / 4)).astype(np.float32)
        self.price = _log_price(catalogue)
        self.brand, self.category = _codes(catalogue, schema.BRAND), _codes(catalogue, schema.CATEGORY)
        self.group = _codes(catalogue, schema.GROUP_ID)
        self.kin = self._neighbour_popularity(np.bincount(item, minlength=n))
        self.season = self._season(item, time)

    def of(self, item: IntArray) -> list[FloatArray]:
        """The columns of `features` that speak of the product alone."""
        ever = self.ever[item]
        return [
            self.lately[item],
            ever,
            (ever == 0).astype(np.float32),
            self.age[item],
            self.quiet[item],
            self.trend[item],
            np.nan_to_num(self.price[item]),
            self.season[item],
            self.kin[item],
        ]

    def _neighbour_popularity(self, events: IntArray) -> FloatArray:
        """What its variants sell tells something of a product nobody has bought yet."""
        whole = np.bincount(self.group + 1, events, minlength=int(self.group.max(initial=-1)) + 2)
        kin: FloatArray = np.log1p(np.where(self.group >= 0, whole[self.group + 1] - events, 0)).astype(np.float32)
        return kin

    def _season(self, item: IntArray, time: IntArray) -> FloatArray:
        """Sales of the product's category in this month of all years, over its mean month."""
        n = len(self.category)
        if not len(time) or self.now - int(time.min()) < _YEAR * DAY:
            return np.zeros(n, np.float32)
        group = self.category + 1
        groups = int(group.max(initial=0)) + 1
        # Distance within the year, in days: half a month on either side belongs to this month.
        apart = np.abs(((self.now - time) / DAY + _YEAR / 2) % _YEAR - _YEAR / 2)
        here = np.bincount(group[item[apart <= _MONTH / 2]], minlength=groups)
        whole = np.bincount(group[item], minlength=groups)
        lift: FloatArray = np.log((1 + here) / (1 + whole * _MONTH / _YEAR)).astype(np.float32)
        lift[0] = 0  # of what has no category
        return lift[group]


class UserStatistics:
    """What the histories of a batch say of its users.

    Attributes:
        length: (b,) log(1 + events looked at).
    """

    def __init__(self, users: UserBatch, products: ProductStatistics) -> None:
        self._users, self._products = users, products
        histories = users.histories
        real, items = histories.mask, histories.items
        count = real.sum(axis=1)
        self.length = np.log1p(count).astype(np.float32)
        ordered = np.sort(np.where(real, items, -1), axis=1)
        distinct = ((np.diff(ordered, axis=1) != 0) & (ordered[:, 1:] >= 0)).sum(axis=1) + (ordered[:, 0] >= 0)
        self._distinct = (distinct / np.maximum(count, 1)).astype(np.float32)
        newest = histories.times.max(axis=1, initial=0)
        self._away = np.where(count > 0, np.log1p(np.maximum(users.now - newest, 0) / DAY), 0).astype(np.float32)
        price = np.where(real, products.price[items], np.nan)
        priced = np.isfinite(price).any(axis=1)
        self._price, self._spread = np.full(len(users), np.nan, np.float32), np.zeros(len(users), np.float32)
        if priced.any():
            self._price[priced] = np.nanmedian(price[priced], axis=1)
            self._spread[priced] = np.nanstd(price[priced], axis=1)

    def of(self, user: IntArray) -> list[FloatArray]:
        """The columns of `features` that speak of the user alone."""
        own = (self.length, self._distinct, self._away, np.nan_to_num(self._price), self._spread)
        return [part[user] for part in own]

    def user_item_features(self, user: IntArray, item: IntArray) -> list[FloatArray]:
        """The columns that speak of both: nearness of the vectors, same brand and category, price, bought before."""
        products, histories = self._products, self._users.histories
        items = histories.items[:, -_LAST:]
        near = np.zeros((3, len(user)), np.float32)
        for at, _, pairs in iter_common_users(len(histories), np.nonzero(items >= 0)[0], user):
            cosine = products.content[item[pairs]] @ products.content[items[at][items[at] >= 0]].T
            near[:, pairs] = cosine[:, -1], cosine.max(axis=1), cosine.mean(axis=1)
        gap = np.nan_to_num(products.price[item] - self._price[user]).astype(np.float32)
        return [
            *near,
            self._share(products.brand, user, item),
            self._share(products.category, user, item),
            self._share(products.group, user, item),
            self._lately(products.group, user, item),
            gap,
            np.abs(gap),
            self._repurchase_interval(user, item),
        ]

    def _share(self, code: IntArray, user: IntArray, item: IntArray) -> FloatArray:
        """Share of the user's events with the product's own code; 0 where it has none."""
        histories = self._users.histories
        real = histories.mask
        row, column = np.nonzero(real)
        own = code[histories.items[row, column]]
        count = int(code.max(initial=-1)) + 2
        keys, number = np.unique(row * count + own + 1, return_counts=True)
        wanted = user * count + code[item] + 1
        found = np.where(code[item] >= 0, lookup(keys, number, wanted), 0)
        share: FloatArray = (found / np.maximum(real.sum(axis=1), 1)[user]).astype(np.float32)
        return share

    def _lately(self, code: IntArray, user: IntArray, item: IntArray) -> FloatArray:
        """1 / (1 + events since the newest one with the product's own code); 0 where there is none."""
        histories = self._users.histories
        row, column = np.nonzero(histories.mask)
        # By user, newest first: the first of each code is its newest.
        row, column = row[::-1], column[::-1]
        count = int(code.max(initial=-1)) + 2
        keys, first = np.unique(row * count + code[histories.items[row, column]] + 1, return_index=True)
        back = histories.items.shape[1] - 1 - column[first]
        found = lookup(keys, 1 / (1 + back), user * count + code[item] + 1)
        return np.where(code[item] >= 0, found, 0).astype(np.float32)

    def _repurchase_interval(self, user: IntArray, item: IntArray) -> FloatArray:
        """Log(1 + times the product stands in the user's history)."""
        histories = self._users.histories
        row, column = np.nonzero(histories.mask)
        n = len(self._products.price)
        keys, number = np.unique(row * n + histories.items[row, column], return_counts=True)
        found = lookup(keys, number, user * n + item)
        return np.log1p(found.astype(np.float64)).astype(np.float32)


def _log_price(catalogue: Catalogue) -> FloatArray:
    """Log of each price, nan where there is none: (n,)."""
    price = price_array(catalogue)
    known: FloatArray = np.where(price > 0, price, np.nan).astype(np.float32)
    return np.log(known)


def _codes(catalogue: Catalogue, column: str) -> IntArray:
    """A number for each value of a column, -1 = none, also where there is no such column: (n,)."""
    if column not in catalogue.frame.columns:
        return np.full(len(catalogue), -1, np.int64)
    return category_codes(catalogue, column, setting="ranker")


def build_product_statistics(held: SourceContext) -> ProductStatistics:
    """What is known of the products at `held.now`."""
    return ProductStatistics(
        held.catalogue, held.interactions, held.content, now=held.now, days=held.recommend.popular_days
    )
