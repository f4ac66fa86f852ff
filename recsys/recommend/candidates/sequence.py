"""What the user encoder expects next: inner products of its vector with every product's ranking vector.

In: a trained user encoder and the ranking vectors. Out: Candidates.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recsys.data.holdout import take_histories
from recsys.data.interactions import Histories
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk.approximate import ApproximateScorer
from recsys.vectors.topk.scorer import ExactScorer


class SequenceModel(Protocol):
    """What is asked of a trained model (`encoder.model.Model` is one)."""

    def item_vectors(self, content: FloatArray) -> FloatArray:
        """Ranking vectors of the products: (n, d)."""
        ...

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int) -> FloatArray:
        """Vectors of the users: (b, d); their inner product with a ranking vector is the score."""
        ...


_CROWD = 32
"""Users encoded at once at least."""
_PAIRS = 4096
"""Pairs scored at once; their vectors stay in the processor's cache."""


class SequenceSource:
    """Search of the user's vector among the ranking vectors: exact, or with a recall that is measured."""

    name = "sequence"

    def __init__(
        self,
        model: SequenceModel,
        content: FloatArray,
        *,
        sellable: BoolArray | None = None,
        recall: float | None = None,
        sample: tuple[Histories, int] | None = None,
        k: int = 100,
    ) -> None:
        """Make the products ready for search.

        Args:
            model: the trained user encoder.
            content: (n, d) product vectors.
            sellable: (n,) what may be proposed.
            recall: share of the best k that must be found; None = all, by exact search.
            sample: histories the recall is measured on, and the time they are looked at; goes with `recall`.
            k: candidates the recall is measured on.
        """
        self.model = model
        self.items = model.item_vectors(content)
        self._scorer: ExactScorer | ApproximateScorer = ExactScorer(self.items, allowed=sellable)
        if recall is not None and sample is not None:
            queries = model.user_vectors(sample[0], self.items, now=sample[1])
            self._scorer = ApproximateScorer(self.items, queries, k, recall=recall, allowed=sellable)
        self._last: tuple[UserBatch | None, FloatArray] = (None, np.zeros((0, 0), np.float32))

    def vectors(self, users: UserBatch) -> FloatArray:
        """The vectors of the users: (b, d); zeros without events. Those of the last batch are kept for `weigh`."""
        if self._last[0] is not users:
            known = np.flatnonzero(users.histories.mask.any(axis=1))
            out = np.zeros((len(users), self.items.shape[1]), np.float32)
            if len(known):  # few rows are multiplied in another way: in company, everybody's numbers stay the same
                crowd = np.resize(known, max(len(known), _CROWD))
                told = self.model.user_vectors(take_histories(users.histories, crowd), self.items, now=users.now)
                out[known] = told[: len(known)]
            self._last = (users, out)
        return self._last[1]

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        known = np.flatnonzero(users.histories.mask.any(axis=1))
        if not len(known):
            return Candidates.empty()
        scores, rows = self._scorer.top_k(self.vectors(users)[known], k)
        at = np.sort(np.where(rows >= 0, rows, np.iinfo(np.int64).max), axis=1, stable=True)
        by_item = np.argsort(np.where(rows >= 0, rows, np.iinfo(np.int64).max), axis=1, stable=True)
        score = np.take_along_axis(scores, by_item, axis=1)
        held = at != np.iinfo(np.int64).max
        user = np.repeat(known.astype(np.int64), held.sum(axis=1))
        m = len(user)
        return Candidates(user, at[held], score[held], np.zeros(m, np.int16), np.full(m, -1, np.int64))

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        vectors = self.vectors(users)
        out = np.empty(len(user), np.float32)
        for start in range(0, len(user), _PAIRS):
            some = slice(start, start + _PAIRS)
            out[some] = np.einsum("md,md->m", vectors[user[some]], self.items[item[some]])
        return out
