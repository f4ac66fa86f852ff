"""What the ranker knows of each candidate: what every source says of it, the product, the user, how the two fit.

In: `CandidatePairs`, the users' histories, what is known of the products. Out: features (m, f) float32, named.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.recommend.candidates.per_user import argsort_by_user_score
from recsys.recommend.candidates.source import CandidatePairs, CandidateSource, UserBatch
from recsys.recommend.ranking.statistics import ProductStatistics, UserStatistics
from recsys.types import DoubleArray, FloatArray, IntArray

_OF_SOURCE = ("relative", "place", "held", "raw", "newest", "by_history", "by_popularity")
_OF_PRODUCT = ("lately", "ever", "never", "age", "quiet", "trend", "price", "season", "kin")
_OF_USER = ("length", "distinct", "away", "price", "spread")
_OF_BOTH = (
    *("near_newest", "near_most", "near_mean", "same_brand", "same_category", "same_group", "group_lately"),
    *("dearer", "price_gap", "again"),
)


def feature_names(sources: Sequence[str]) -> list[str]:
    """Names of the features, in order; those of a source begin with its name and a dot."""
    return [
        *(f"{source}.{part}" for source in sources for part in _OF_SOURCE),
        *(f"product.{part}" for part in _OF_PRODUCT),
        *(f"user.{part}" for part in _OF_USER),
        *(f"fit.{part}" for part in _OF_BOTH),
    ]


class FeatureExtractor:
    """Computes features; assembled once from what may be learned from."""

    def __init__(self, sources: Sequence[CandidateSource], products: ProductStatistics) -> None:
        self._sources, self._products = list(sources), products

    def transform(self, pairs: CandidatePairs, users: UserBatch) -> FloatArray:
        """Features of each pair in the order of `feature_names`: (m, f) float32.

        Every source is asked about every pair, whoever proposed it. `relative` is its answer between 0 and 1 within
        the user, so that sources in different units compare; `place` is 1 / rank; `held` whether it proposed the
        pair; `raw` the answer itself, squashed, which tells a sure source from a guessing one; `newest` its answer
        to the last event alone.
        """
        m = len(pairs)
        if not m:
            return np.zeros((0, len(feature_names([source.name for source in self._sources]))), np.float32)
        starts = np.searchsorted(pairs.user, np.arange(len(users) + 1))
        mine = UserStatistics(users, self._products)
        length, ever = mine.length[pairs.user], self._products.ever[pairs.item]
        columns: list[FloatArray] = []
        newest = users.latest_event
        for place, source in enumerate(self._sources):
            score = source.score(users, pairs.user, pairs.item)
            relative = _relative(score, pairs.user, starts)
            columns += [
                relative,
                _reciprocal_rank(score, pairs, starts),
                pairs.proposed_by[:, place].astype(np.float32),
                _signed_log(score),
                _signed_log(source.score(newest, pairs.user, pairs.item)),
                relative * length,
                relative * ever,
            ]
        columns += self._products.of(pairs.item)
        columns += mine.of(pairs.user)
        columns += mine.user_item_features(pairs.user, pairs.item)
        # one row of memory a feature: written whole, and read whole by the weights
        return np.stack(columns, dtype=np.float32, casting="same_kind").T


def _relative(score: FloatArray, user: IntArray, starts: IntArray) -> FloatArray:
    """Scores between 0 and 1 within each user: linear from the user's lowest (or 0) to the highest."""
    high, low = _max_per_user(score, starts), np.minimum(-_max_per_user(-score, starts), 0.0)
    span = np.where(np.isfinite(high) & (high > low), high - low, 1.0)
    low = np.where(np.isfinite(low), low, 0.0)
    return ((score - low[user]) / span[user]).astype(np.float32)


def _max_per_user(values: npt.NDArray[np.floating], starts: IntArray) -> DoubleArray:
    """The largest value of each user, -inf where a user has none: (b,)."""
    out = np.full(len(starts) - 1, -np.inf)
    some = np.flatnonzero(starts[1:] > starts[:-1])
    out[some] = np.maximum.reduceat(values, starts[some])
    return out


def _reciprocal_rank(score: FloatArray, pairs: CandidatePairs, starts: IntArray) -> FloatArray:
    """1 / rank among the user's pairs, ties by lower row; 0 where the source says nothing."""
    order = argsort_by_user_score(pairs.user, score)  # pairs are sorted by item already
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts[pairs.user]
    return np.where(score != 0, 1.0 / (1.0 + rank), 0.0).astype(np.float32)


def _signed_log(score: FloatArray) -> FloatArray:
    """A score of any unit without its tails: sign(x) log(1 + |x|)."""
    return (np.sign(score) * np.log1p(np.abs(score))).astype(np.float32)
