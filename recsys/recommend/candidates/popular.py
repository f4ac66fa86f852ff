"""Candidate source `popular`: recent best-sellers, the same for every user; it can fill every list.

In: Interactions. Out: the same Candidates for all users.
"""

from __future__ import annotations

import numpy as np

from recsys.data.interactions import Interactions
from recsys.data.popularity import count_customers
from recsys.data.schema import DAY, RETURN_CODE
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray


class PopularSource:
    """Ranks by time-decayed customers of the last days, then by those of all time, then by product row.

    An event counts by its type, whatever the quantity; a customer's events of a product count a little more than one.

    Attributes:
        popularity: (n,) float32; 1 and more = has events within the last days.
        ranked_items: (n,) int64, sellable products, the most popular first.
    """

    name = "popular"

    def __init__(self, interactions: Interactions, *, now: int, days: float, sellable: BoolArray | None = None) -> None:
        no_return = interactions.event_type != RETURN_CODE
        user, item, time = interactions.user[no_return], interactions.item[no_return], interactions.time[no_return]
        weight = np.minimum(np.array(interactions.type_weights), 1.0)[interactions.event_type[no_return]]
        days_ago = np.maximum(now - time, 0) / DAY
        n, shape = interactions.n_items, {"n_users": interactions.n_users, "n_items": interactions.n_items}
        recent = days_ago <= days
        recent_score = count_customers(
            user[recent], item[recent], weight[recent] * 0.5 ** (days_ago[recent] / days), **shape
        )
        all_time_score = count_customers(user, item, weight * 0.5 ** (days_ago / (52 * days)), **shape)
        # Products with recent events rank above all others.
        self.popularity = np.where(
            recent_score > 0, 1.0 + recent_score, all_time_score / (1.0 + all_time_score)
        ).astype(np.float32)
        order = np.lexsort((np.arange(n), -self.popularity))
        self.ranked_items = order[np.ones(n, np.bool_)[order] if sellable is None else sellable[order]].astype(np.int64)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        items = np.sort(self.ranked_items[:k])
        b, m = len(users), len(items)
        return Candidates(
            np.repeat(np.arange(b, dtype=np.int64), m),
            np.tile(items, b),
            np.tile(self.popularity[items], b),
            np.zeros(b * m, np.int16),
            np.full(b * m, -1, np.int64),
        )

    def score(self, _: UserBatch, __: IntArray, item: IntArray) -> FloatArray:
        return self.popularity[item]
