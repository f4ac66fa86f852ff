"""What the user has bought before, the recent and the frequent first.

In: nothing but the user's own history. Out: Candidates, each because of itself.
"""

from __future__ import annotations

import numpy as np

from recsys.data.schema import DAY, PURCHASE_CODE, RETURN_CODE
from recsys.recommend.candidates.item_knn import lookup, sum_and_top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray


class RepurchaseSource:
    """Sum of 1 / (1 + days ago) over the purchases of a product (recency and count in one number).

    A product whose last event is a return is not proposed.
    """

    name = "repurchase"

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        histories = users.histories
        bought = histories.mask & (histories.event_types == PURCHASE_CODE)
        user, column = np.nonzero(bought)
        item, time = histories.items[user, column], histories.times[user, column]
        days = np.maximum(users.now - time, 0) / DAY
        # Of two products of one moment the one further back in the list is the older.
        later = 1.0 / (histories.items.shape[1] - column)
        part = (1.0 / (1.0 + days) + 1e-4 * later).astype(np.float32)
        kept = ~_returned(users)[user, column]
        user, item, part = user[kept].astype(np.int64), item[kept], part[kept]
        return sum_and_top_k(user, item, part, item, k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        every = self.retrieve(users, users.histories.items.shape[1])
        n = 1 + int(max(every.item.max(initial=0), item.max(initial=0)))
        return lookup(every.user * n + every.item, every.score, user * n + item)


def _returned(users: UserBatch) -> np.ndarray:
    """(b, t) bool: was the product of this event returned afterwards and not bought again."""
    histories = users.histories
    out = np.zeros(histories.items.shape, np.bool_)
    for user, column in np.argwhere(histories.mask & (histories.event_types == RETURN_CODE)):
        same = histories.items[user] == histories.items[user, column]
        again = (same & (histories.event_types[user] == PURCHASE_CODE))[column + 1 :].any()
        if not again:
            out[user] |= same
    return out
