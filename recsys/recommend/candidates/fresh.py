"""New products near the user's taste: what nobody could have bought yet must come in by its content.

In: product vectors, which products are new. Out: Candidates, each with the product it resembles most.
"""

from __future__ import annotations

import numpy as np

from recsys.recommend.candidates.item_knn import build_user_profile, iter_common_users, top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk.scorer import ExactScorer

_KEPT = 100_000
"""Products whose nearest are kept."""


class NewProductSource:
    """The largest cosine between a new product and one of the user's last products, less the longer ago."""

    name = "fresh"

    def __init__(
        self,
        content: FloatArray,
        new: BoolArray,
        *,
        sellable: BoolArray | None = None,
        last: int = 10,
        decay: float = 0.9,
    ) -> None:
        """Keep the new products.

        Args:
            content: (n, d) unit vectors.
            new: (n,) bool, see `columns.new_products`.
            sellable: (n,) bool, what may be proposed.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.content, self.new, self.last, self.decay = content, new, last, decay
        self._scorer = ExactScorer(self.content, allowed=new if sellable is None else new & sellable)
        self._place: IntArray = np.full(len(content), -1, np.int64)
        self._scores: FloatArray = np.empty((0, 0), np.float32)
        self._near: IntArray = np.empty((0, 0), np.int64)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        scores, rows = self._nearest(signs.item, k)
        sign, place = np.nonzero((rows >= 0) & (scores > 0))
        user, item, score = signs.user[sign], rows[sign, place], scores[sign, place] * signs.weight[sign]
        order = np.lexsort((sign, -score, item, user))
        user, item, score, because = user[order], item[order], score[order], signs.item[sign[order]]
        first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]  # of equals the strongest
        return top_k(user[first], item[first], score[first], because[first], k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        out = np.zeros(len(user), np.float32)
        asked = np.flatnonzero(self.new[item])
        for _, own, some in iter_common_users(len(users), signs.user, user[asked]):
            near = (self.content[item[asked[some]]] @ self.content[signs.item[own]].T) * signs.weight[own]
            out[asked[some]] = np.maximum(near.max(axis=1), 0)
        return out

    def _nearest(self, items: IntArray, k: int) -> tuple[FloatArray, IntArray]:
        """The k new products nearest to each of some products: cosines (q, k), rows (q, k), -1 = none.

        What is likest by one of a user's products is among the k nearest of that product. They are searched once for
        each product, however many users have it.
        """
        unknown = np.unique(items[self._place[items] < 0])
        if k != self._near.shape[1] or len(self._near) + len(unknown) > _KEPT:
            self._forget(k)
            unknown = np.unique(items)
        if len(unknown):
            scores, rows = self._scorer.top_k(self.content[unknown], k)
            self._place[unknown] = len(self._near) + np.arange(len(unknown))
            self._scores, self._near = np.concatenate([self._scores, scores]), np.concatenate([self._near, rows])
        return self._scores[self._place[items]], self._near[self._place[items]]

    def _forget(self, k: int) -> None:
        self._place = np.full(len(self.content), -1, np.int64)
        self._scores, self._near = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
