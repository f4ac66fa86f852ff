"""Candidate source `repurchase`: products the user has bought before, recent and frequent ones first.

In: the user's own history only. Out: Candidates; each is its own source item.
"""

from __future__ import annotations

import numpy as np

from recsys.data.schema import DAY, PURCHASE_CODE, RETURN_CODE
from recsys.recommend.candidates.item_knn import lookup, sum_and_top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray


class RepurchaseSource:
    """Score: sum of 1 / (1 + days ago) over the purchases of a product, which combines recency and frequency.

    A product whose last event is a return is not retrieved.
    """

    name = "repurchase"

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        histories = users.histories
        is_purchase = histories.mask & (histories.event_types == PURCHASE_CODE)
        user, column = np.nonzero(is_purchase)
        item, time = histories.items[user, column], histories.times[user, column]
        days = np.maximum(users.now - time, 0) / DAY
        # Of two products bought at the same moment, the one earlier in the history counts as older.
        recency_bonus = 1.0 / (histories.items.shape[1] - column)
        part = (1.0 / (1.0 + days) + 1e-4 * recency_bonus).astype(np.float32)
        keep_mask = ~_returned_mask(users)[user, column]
        user, item, part = user[keep_mask].astype(np.int64), item[keep_mask], part[keep_mask]
        return sum_and_top_k(user, item, part, item, k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        all_candidates = self.retrieve(users, users.histories.items.shape[1])
        n = 1 + int(max(all_candidates.item.max(initial=0), item.max(initial=0)))
        return lookup(all_candidates.user * n + all_candidates.item, all_candidates.score, user * n + item)


def _returned_mask(users: UserBatch) -> BoolArray:
    """Mark the events whose product was returned afterwards and not bought again: (b, t) bool."""
    histories = users.histories
    out = np.zeros(histories.items.shape, np.bool_)
    for user, column in np.argwhere(histories.mask & (histories.event_types == RETURN_CODE)):
        same_item = histories.items[user] == histories.items[user, column]
        bought_again = (same_item & (histories.event_types[user] == PURCHASE_CODE))[column + 1 :].any()
        if not bought_again:
            out[user] |= same_item
    return out
