"""Re-rank for diversity (MMR) and calibration to the user's category mix.

In: the pool of ranked candidates, content vectors, categories. Out: marginal gain of each candidate, given the list so
far.
"""

from __future__ import annotations

import numpy as np

from recsys.config import RecommendSettings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories
from recsys.data.product_columns import category_codes
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.item_knn import lookup
from recsys.recommend.rules.list_constraints import MarginalGain, RankedPool, same_value_mask
from recsys.types import DoubleArray, FloatArray, IntArray

_HEAD_FACTOR = 5
"""Candidates per list position that are re-ranked; later candidates keep the ranker's order."""
_SMOOTHING = 0.01
"""Share of the user's own category mix blended into the list's, so that the divergence stays finite (Steck 2018)."""


class DiversityReranker:
    """MMR (Carbonell and Goldstein 1998) and calibration (Steck 2018) in one greedy objective.

    With weights d and c, each position goes to the candidate with the largest

        (1 - d - c) * relevance  -  d * (largest cosine with a product in the list)  -  c * KL(history || list with it)

    where relevance is the ranker's score, scaled to 0..1 between the worst and the best candidate considered, and KL
    compares the category shares of the user's history (without returns) with those of the list. The best candidate
    comes first unless calibration prefers another. A user whose history has no category is not calibrated.
    """

    def __init__(
        self, content: FloatArray, *, diversity: float, calibration: float = 0.0, codes: IntArray | None = None
    ) -> None:
        """Store the vectors, categories and weights.

        Args:
            content: (n, d) unit vectors.
            diversity: d, 0..1.
            calibration: c, 0..1; d + c is at most 1.
            codes: (n,) category of each product, -1 = none; only calibration uses it.
        """
        self._content, self._diversity, self._calibration, self._codes = content, diversity, calibration, codes

    @staticmethod
    def from_settings(
        settings: RecommendSettings, catalogue: Catalogue, content: FloatArray
    ) -> DiversityReranker | None:
        """Create the re-ranker of the settings; None if both weights are 0 (the ranker's order is kept).

        Raises:
            ConfigError: the catalogue has no column `calibration_column`.
        """
        if not settings.diversity and not settings.calibration:
            return None
        codes = None
        if settings.calibration:
            codes = category_codes(catalogue, settings.calibration_column, setting="recommend.calibration_column")
        return DiversityReranker(content, diversity=settings.diversity, calibration=settings.calibration, codes=codes)

    def begin(self, pool: RankedPool, histories: Histories, k: int) -> MarginalGain:
        """Start the lists of a batch of users."""
        head = min(_HEAD_FACTOR * k, pool.row.shape[1])
        item = pool.item[:, :head]
        penalties: list[_Penalty] = []
        if self._diversity:
            penalties.append(_SimilarityPenalty(np.asarray(self._content[item]), self._diversity))
        if self._calibration and self._codes is not None:
            penalties.append(
                _CalibrationPenalty(
                    self._codes[item], history_category_shares(histories, self._codes, item), self._calibration
                )
            )
        weight = 1.0 - self._diversity - self._calibration
        return _PenalizedGain(head, weight * _scaled_relevance(pool.score[:, :head]), penalties)


class _PenalizedGain:
    """Relevance minus the penalties; implements `MarginalGain`."""

    def __init__(self, head: int, relevance: DoubleArray, penalties: list[_Penalty]) -> None:
        self.head, self._relevance, self._penalties = head, relevance, penalties

    def value(self, position: int) -> DoubleArray:
        return self._relevance - sum((penalty.cost(position) for penalty in self._penalties), np.zeros(()))

    def update(self, column: IntArray) -> None:
        # A candidate beyond the head does not change the penalties.
        head_column = np.where(column < self.head, column, -1)
        for penalty in self._penalties:
            penalty.update(head_column)


class _SimilarityPenalty:
    """Largest cosine with a product in the list."""

    def __init__(self, vectors: FloatArray, weight: float) -> None:
        self._vectors, self._weight = vectors, weight
        self._max_cosine = np.full(vectors.shape[:2], -np.inf)

    def cost(self, _: int) -> DoubleArray:
        return self._weight * np.where(np.isfinite(self._max_cosine), self._max_cosine, 0.0)

    def update(self, column: IntArray) -> None:
        if not self._vectors.shape[1]:
            return
        chosen = self._vectors[np.arange(len(column)), np.maximum(column, 0)]
        cosine = np.matmul(self._vectors, chosen[:, :, None])[:, :, 0]
        self._max_cosine = np.where((column >= 0)[:, None], np.maximum(self._max_cosine, cosine), self._max_cosine)


class _CalibrationPenalty:
    """Divergence of the list's categories from the history's, up to a constant per user.

    Adding a candidate changes the list's share of its own category alone, so the divergence with it is a constant plus
    p log(q before / q after), where p and q are that category's shares in the history and in the list.
    """

    def __init__(self, codes: IntArray, history_share: DoubleArray, weight: float) -> None:
        self._codes, self._history_share, self._weight = codes, history_share, weight
        self._count = np.zeros(codes.shape, np.int64)

    def cost(self, position: int) -> DoubleArray:
        step, smoothing = (1 - _SMOOTHING) / (position + 1), _SMOOTHING * self._history_share
        before, after = step * self._count + smoothing, step * (self._count + 1) + smoothing
        divergence = self._weight * self._history_share * np.log(np.maximum(before, 1e-12) / after)
        return np.where(self._history_share > 0, divergence, 0.0)

    def update(self, column: IntArray) -> None:
        if self._codes.shape[1]:
            self._count += same_value_mask(self._codes, column)


_Penalty = _SimilarityPenalty | _CalibrationPenalty


def history_category_shares(histories: Histories, codes: IntArray, item: IntArray) -> DoubleArray:
    """Compute the share of each candidate's category in the user's history: (b, c), 0 where there is none.

    Args:
        histories: (b, t).
        codes: (n,) category of each product, -1 = none.
        item: (b, c) candidates.
    """
    b, c = item.shape
    n_codes = int(codes.max(initial=-1)) + 1
    event_mask = histories.mask & (histories.event_types != RETURN_CODE) & (codes[histories.items] >= 0)
    user, column = np.nonzero(event_mask)
    key, n_events = np.unique(user * n_codes + codes[histories.items[user, column]], return_counts=True)
    total = np.maximum(event_mask.sum(axis=1), 1)
    item_codes = codes[item]
    queries = (np.arange(b)[:, None] * n_codes + item_codes).ravel()
    counts = lookup(key, n_events, queries)
    return np.where(item_codes >= 0, counts.reshape(b, c) / total[:, None], 0.0)


def _scaled_relevance(score: FloatArray) -> DoubleArray:
    """Scale scores to 0..1 within each user: (b, c) float64."""
    finite = np.isfinite(score)
    high = np.where(finite, score, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(finite, score, np.inf).min(axis=1, initial=np.inf)
    span = np.where(high > low, high.astype(np.float64) - low, 1.0)
    offset = np.where(np.isfinite(low), low, 0)[:, None]
    return np.where(finite, (np.where(finite, score, 0.0) - offset) / span[:, None], 0)
