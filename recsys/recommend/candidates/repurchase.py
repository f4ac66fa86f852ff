"""Candidate source `repurchase`: products the user has bought before, recent and frequent ones first.

In: the user's own history only. Out: Candidates; each is its own source item.
"""

from __future__ import annotations

import numpy as np

from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.recommend.candidates.item_knn import lookup, sum_and_top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray


class RepurchaseSource:
    """Score: sum of 1 / (1 + days ago) over the purchases of a product, which combines recency and frequency."""

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
        return sum_and_top_k(user.astype(np.int64), item, part, item, k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        all_candidates = self.retrieve(users, users.histories.items.shape[1])
        n = 1 + int(max(all_candidates.item.max(initial=0), item.max(initial=0)))
        return lookup(all_candidates.user * n + all_candidates.item, all_candidates.score, user * n + item)
