"""Candidate source `sequence`: next-item prediction of the user encoder, by inner product with the ranking vectors.

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

_MIN_ENCODE_BATCH = 32
"""Smallest number of users encoded at once."""
_PAIR_BATCH_SIZE = 4096
"""Pairs scored at once; their vectors stay in the processor's cache."""


class SequenceModel(Protocol):
    """Interface of the trained model (`encoder.model.Model` bound to the ids of the products)."""

    def item_vectors(self, content: FloatArray) -> FloatArray:
        """Compute the ranking vectors of the products: (n, d)."""
        ...

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int) -> FloatArray:
        """Compute the vectors of the users: (b, d); the inner product with a ranking vector is the score."""
        ...


class UntrainedSequenceSource:
    """The source without a user encoder, for shops whose users have one event each: it proposes nothing."""

    name = "sequence"

    def retrieve(self, _: UserBatch, __: int) -> Candidates:
        return Candidates.empty()

    def score(self, _: UserBatch, user: IntArray, __: IntArray) -> FloatArray:
        return np.zeros(len(user), np.float32)


class SequenceSource:
    """Search of the user vector among the ranking vectors: exact, or approximate with a measured recall."""

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
        """Compute the ranking vectors and prepare the search.

        Args:
            model: the trained user encoder.
            content: (n, d) product vectors.
            sellable: (n,) bool, products that may be retrieved.
            recall: share of the best k that the search must find; None = exact search.
            sample: histories on which the recall is measured, and their `now`; required with `recall`.
            k: number of candidates for which the recall is measured.
        """
        self.model = model
        self.item_vectors = model.item_vectors(content)
        self._scorer: ExactScorer | ApproximateScorer = ExactScorer(self.item_vectors, allowed=sellable)
        if recall is not None and sample is not None:
            queries = model.user_vectors(sample[0], self.item_vectors, now=sample[1])
            self._scorer = ApproximateScorer(self.item_vectors, queries, k, recall=recall, allowed=sellable)
        self._cached_batch: tuple[UserBatch | None, FloatArray] = (None, np.zeros((0, 0), np.float32))

    def encode_users(self, users: UserBatch) -> FloatArray:
        """Return the user vectors: (b, d), zeros without events; those of the last batch are cached for `score`."""
        if self._cached_batch[0] is not users:
            with_events = np.flatnonzero(users.histories.mask.any(axis=1))
            out = np.zeros((len(users), self.item_vectors.shape[1]), np.float32)
            if len(with_events):
                # A product of few rows is computed by another kernel: padding the batch keeps each user's vector the
                # same whatever the size of the batch.
                padded = np.resize(with_events, max(len(with_events), _MIN_ENCODE_BATCH))
                encoded = self.model.user_vectors(
                    take_histories(users.histories, padded), self.item_vectors, now=users.now
                )
                out[with_events] = encoded[: len(with_events)]
            self._cached_batch = (users, out)
        return self._cached_batch[1]

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        with_events = np.flatnonzero(users.histories.mask.any(axis=1))
        if not len(with_events):
            return Candidates.empty()
        scores, rows = self._scorer.top_k(self.encode_users(users)[with_events], k)
        items = np.sort(np.where(rows >= 0, rows, np.iinfo(np.int64).max), axis=1, stable=True)
        by_item = np.argsort(np.where(rows >= 0, rows, np.iinfo(np.int64).max), axis=1, stable=True)
        score = np.take_along_axis(scores, by_item, axis=1)
        is_item = items != np.iinfo(np.int64).max
        user = np.repeat(with_events.astype(np.int64), is_item.sum(axis=1))
        m = len(user)
        return Candidates(user, items[is_item], score[is_item], np.zeros(m, np.int16), np.full(m, -1, np.int64))

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        vectors = self.encode_users(users)
        out = np.empty(len(user), np.float32)
        for start in range(0, len(user), _PAIR_BATCH_SIZE):
            rows = slice(start, start + _PAIR_BATCH_SIZE)
            out[rows] = np.einsum("md,md->m", vectors[user[rows]], self.item_vectors[item[rows]])
        return out
