"""Compute the ranker's features of each candidate: from the sources, the product, the user, and the pair.

In: `CandidatePairs`, the users' histories, product statistics. Out: named features (m, f) float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.recommend.candidates.per_user import argsort_by_user_score
from recsys.recommend.candidates.source import CandidatePairs, CandidateSource, UserBatch
from recsys.recommend.ranking.statistics import ProductStatistics, UserStatistics
from recsys.types import DoubleArray, FloatArray, IntArray

_SOURCE_FEATURES = ("relative", "place", "held", "raw", "newest", "by_history", "by_popularity")
_PRODUCT_FEATURES = ("lately", "ever", "never", "age", "quiet", "trend", "price", "season", "kin")
_USER_FEATURES = ("length", "distinct", "away", "price", "spread")
_PAIR_FEATURES = (
    *("near_newest", "near_most", "near_mean", "same_brand", "same_category", "same_group", "group_lately"),
    *("dearer", "price_gap", "again"),
)


def feature_names(sources: Sequence[str]) -> list[str]:
    """Return the names of the features, in order; a source's features are named `<source>.<feature>`."""
    return [
        *(f"{source}.{feature}" for source in sources for feature in _SOURCE_FEATURES),
        *(f"product.{feature}" for feature in _PRODUCT_FEATURES),
        *(f"user.{feature}" for feature in _USER_FEATURES),
        *(f"fit.{feature}" for feature in _PAIR_FEATURES),
    ]


class FeatureExtractor:
    """Computes the features of pairs; built once from the sources and the product statistics."""

    def __init__(self, sources: Sequence[CandidateSource], products: ProductStatistics) -> None:
        self._sources, self._products = list(sources), products

    def transform(self, pairs: CandidatePairs, users: UserBatch) -> FloatArray:
        """Compute the features of each pair in the order of `feature_names`: (m, f) float32.

        Every source scores every pair, whichever source retrieved it. `relative` is the score scaled to 0..1 within
        the user, so that sources of different units are comparable; `place` is 1 / rank; `held` is 1 if the source
        retrieved the pair; `raw` is the score itself, log-compressed, which separates confident from weak scores;
        `newest` is the score from the last event alone; `by_history` and `by_popularity` are `relative` times the log
        length of the history and times the log popularity of the product.
        """
        m = len(pairs)
        if not m:
            return np.zeros((0, len(feature_names([source.name for source in self._sources]))), np.float32)
        starts = np.searchsorted(pairs.user, np.arange(len(users) + 1))
        statistics = UserStatistics(users, self._products)
        length, ever = statistics.history_length[pairs.user], self._products.total_events[pairs.item]
        columns: list[FloatArray] = []
        latest = users.latest_event
        for index, source in enumerate(self._sources):
            score = source.score(users, pairs.user, pairs.item)
            relative = _scale_per_user(score, pairs.user, starts)
            columns += [
                relative,
                _reciprocal_rank(score, pairs, starts),
                pairs.proposed_by[:, index].astype(np.float32),
                _signed_log(score),
                _signed_log(source.score(latest, pairs.user, pairs.item)),
                relative * length,
                relative * ever,
            ]
        columns += self._products.product_features(pairs.item)
        columns += statistics.user_features(pairs.user)
        columns += statistics.user_item_features(pairs.user, pairs.item)
        # Each feature is contiguous in memory: the linear ranker reads one feature at a time.
        return np.stack(columns, dtype=np.float32, casting="same_kind").T


def _scale_per_user(score: FloatArray, user: IntArray, starts: IntArray) -> FloatArray:
    """Scale scores to 0..1 within each user: linear from the smaller of the lowest score and 0 to the highest."""
    high, low = _max_per_user(score, starts), np.minimum(-_max_per_user(-score, starts), 0.0)
    span = np.where(np.isfinite(high) & (high > low), high - low, 1.0)
    low = np.where(np.isfinite(low), low, 0.0)
    return ((score - low[user]) / span[user]).astype(np.float32)


def _max_per_user(values: npt.NDArray[np.floating], starts: IntArray) -> DoubleArray:
    """Return the largest value of each user, -inf for a user without any: (b,)."""
    out = np.full(len(starts) - 1, -np.inf)
    nonempty = np.flatnonzero(starts[1:] > starts[:-1])
    out[nonempty] = np.maximum.reduceat(values, starts[nonempty])
    return out


def _reciprocal_rank(score: FloatArray, pairs: CandidatePairs, starts: IntArray) -> FloatArray:
    """Return 1 / rank among the user's pairs, ties by lower row; 0 where the source's score is 0."""
    order = argsort_by_user_score(pairs.user, score)  # pairs are sorted by item already
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts[pairs.user]
    return np.where(score != 0, 1.0 / (1.0 + rank), 0.0).astype(np.float32)


def _signed_log(score: FloatArray) -> FloatArray:
    """Compress the tails of a score of any unit: sign(x) log(1 + |x|)."""
    return (np.sign(score) * np.log1p(np.abs(score))).astype(np.float32)
