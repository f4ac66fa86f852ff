"""Candidate source `fresh`: new products similar to the user's, which without purchases only content can surface.

In: product vectors, mask of the new products. Out: Candidates; the source item is the user's most similar product.
"""

from __future__ import annotations

import numpy as np

from recsys.recommend.candidates.item_knn import build_user_profile, iter_common_users, top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk.scorer import ExactScorer

_MAX_CACHED_ITEMS = 100_000
"""Products whose nearest new products are cached."""


class NewProductSource:
    """Score: the largest cosine of a new product with one of the user's recent products, weighted by recency."""

    name = "fresh"

    def __init__(
        self,
        content: FloatArray,
        new_mask: BoolArray,
        *,
        sellable: BoolArray | None = None,
        max_history: int = 10,
        decay: float = 0.9,
    ) -> None:
        """Prepare the search among the new products.

        Args:
            content: (n, d) unit vectors.
            new_mask: (n,) bool, see `data.product_columns.new_product_mask`.
            sellable: (n,) bool, products that may be retrieved.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
        """
        self.content, self.new_mask, self.max_history, self.decay = content, new_mask, max_history, decay
        self._scorer = ExactScorer(self.content, allowed=new_mask if sellable is None else new_mask & sellable)
        self._cache_row: IntArray = np.full(len(content), -1, np.int64)
        self._cached_scores: FloatArray = np.empty((0, 0), np.float32)
        self._cached_items: IntArray = np.empty((0, 0), np.int64)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        scores, rows = self._nearest_new_items(profile.item, k)
        entry, column = np.nonzero((rows >= 0) & (scores > 0))
        user, item, score = profile.user[entry], rows[entry, column], scores[entry, column] * profile.weight[entry]
        order = np.lexsort((entry, -score, item, user))
        user, item, score, source_item = user[order], item[order], score[order], profile.item[entry[order]]
        # The first of each (user, item) has the largest score.
        first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]
        return top_k(user[first], item[first], score[first], source_item[first], k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        out = np.zeros(len(user), np.float32)
        new_pairs = np.flatnonzero(self.new_mask[item])
        for _, profile_rows, pair_rows in iter_common_users(len(users), profile.user, user[new_pairs]):
            pairs = new_pairs[pair_rows]
            cosine = self.content[item[pairs]] @ self.content[profile.item[profile_rows]].T
            out[pairs] = np.maximum((cosine * profile.weight[profile_rows]).max(axis=1), 0)
        return out

    def _nearest_new_items(self, items: IntArray, k: int) -> tuple[FloatArray, IntArray]:
        """Return the k new products nearest to each of q products: cosines (q, k), rows (q, k), -1 = none.

        A user's k best new products are all among the k nearest of one of the user's products. They are searched once
        per product, however many users have it.
        """
        missing = np.unique(items[self._cache_row[items] < 0])
        if k != self._cached_items.shape[1] or len(self._cached_items) + len(missing) > _MAX_CACHED_ITEMS:
            self._clear_cache(k)
            missing = np.unique(items)
        if len(missing):
            scores, rows = self._scorer.top_k(self.content[missing], k)
            self._cache_row[missing] = len(self._cached_items) + np.arange(len(missing))
            self._cached_scores = np.concatenate([self._cached_scores, scores])
            self._cached_items = np.concatenate([self._cached_items, rows])
        return self._cached_scores[self._cache_row[items]], self._cached_items[self._cache_row[items]]

    def _clear_cache(self, k: int) -> None:
        self._cache_row = np.full(len(self.content), -1, np.int64)
        self._cached_scores, self._cached_items = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
