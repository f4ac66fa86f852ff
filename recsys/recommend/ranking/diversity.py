"""Lists that are less of the same: places weighed against likeness (MMR) and against the mix the user is used to.

In: the pool of ranked candidates, content vectors, categories. Out: what each candidate would add to the list so far.
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

_HEAD = 5
"""So many times k of a user's best candidates are looked at; what comes after them keeps the ranker's order."""
_SMOOTH = 0.01
"""Share of the user's own mix blended into the list's, so that the divergence stays finite (Steck 2018)."""


class DiversityReranker:
    """Maximal marginal relevance (Carbonell and Goldstein 1998) and calibrated lists (Steck 2018), greedily in one.

    With weights d and c, each place goes to the candidate with the largest

        (1 - d - c) * relevance  -  d * (largest cosine with a product in the list)  -  c * KL(history || list with it)

    where relevance is the ranker's score, brought to 0..1 between the worst and the best candidate looked at, and KL
    compares the shares of the categories in the user's history (returns left out) with those in the list. The best
    candidate comes first unless calibration says otherwise. A user whose history has no category is not calibrated.
    """

    def __init__(
        self, content: FloatArray, *, diversity: float, calibration: float = 0.0, codes: IntArray | None = None
    ) -> None:
        """Take what likeness and mix are measured by.

        Args:
            content: (n, d) unit vectors.
            diversity: d, 0..1.
            calibration: c, 0..1; d + c is at most 1.
            codes: (n,) category of each product, -1 = none; only calibration asks.
        """
        self._content, self._diversity, self._calibration, self._codes = content, diversity, calibration, codes

    @staticmethod
    def of(settings: RecommendSettings, catalogue: Catalogue, content: FloatArray) -> DiversityReranker | None:
        """As the settings ask; None when both weights are 0, and lists are left as the ranker orders them.

        Raises:
            ConfigError: there is no column of the name of `calibration_column`.
        """
        if not settings.diversity and not settings.calibration:
            return None
        codes = None
        if settings.calibration:
            codes = category_codes(catalogue, settings.calibration_column, setting="recommend.calibration_column")
        return DiversityReranker(content, diversity=settings.diversity, calibration=settings.calibration, codes=codes)

    def begin(self, pool: RankedPool, histories: Histories, k: int) -> MarginalGain:
        """Start on the lists of some users."""
        head = min(_HEAD * k, pool.row.shape[1])
        item = pool.item[:, :head]
        parts: list[_Part] = []
        if self._diversity:
            parts.append(_SimilarityPenalty(np.asarray(self._content[item]), self._diversity))
        if self._calibration and self._codes is not None:
            parts.append(
                _CalibrationPenalty(
                    self._codes[item], history_category_shares(histories, self._codes, item), self._calibration
                )
            )
        weight = 1.0 - self._diversity - self._calibration
        return _Gain(head, weight * _relevance(pool.score[:, :head]), parts)


class _Gain:
    def __init__(self, head: int, relevance: DoubleArray, parts: list[_Part]) -> None:
        self.head, self._relevance, self._parts = head, relevance, parts

    def value(self, place: int) -> DoubleArray:
        return self._relevance - sum((part.cost(place) for part in self._parts), np.zeros(()))

    def update(self, column: IntArray) -> None:
        # A place that went beyond the head changes nothing here.
        inside = np.where(column < self.head, column, -1)
        for part in self._parts:
            part.took(inside)


class _SimilarityPenalty:
    """Largest cosine with what is in the list."""

    def __init__(self, vectors: FloatArray, weight: float) -> None:
        self._vectors, self._weight = vectors, weight
        self._most = np.full(vectors.shape[:2], -np.inf)

    def cost(self, _: int) -> DoubleArray:
        return self._weight * np.where(np.isfinite(self._most), self._most, 0.0)

    def took(self, column: IntArray) -> None:
        if not self._vectors.shape[1]:
            return
        chosen = self._vectors[np.arange(len(column)), np.maximum(column, 0)]
        cosine = np.matmul(self._vectors, chosen[:, :, None])[:, :, 0]
        self._most = np.where((column >= 0)[:, None], np.maximum(self._most, cosine), self._most)


class _CalibrationPenalty:
    """Divergence of the list's categories from the history's, up to what is the same for all candidates of a user.

    Adding a candidate changes the list's share of its own category alone, so the divergence with it is a constant plus
    p log(q before / q after), p and q being that category's shares in history and list.
    """

    def __init__(self, codes: IntArray, wanted: DoubleArray, weight: float) -> None:
        self._codes, self._wanted, self._weight = codes, wanted, weight
        self._count = np.zeros(codes.shape, np.int64)

    def cost(self, place: int) -> DoubleArray:
        each, own = (1 - _SMOOTH) / (place + 1), _SMOOTH * self._wanted
        before, after = each * self._count + own, each * (self._count + 1) + own
        return np.where(self._wanted > 0, self._weight * self._wanted * np.log(np.maximum(before, 1e-12) / after), 0.0)

    def took(self, column: IntArray) -> None:
        if self._codes.shape[1]:
            self._count += same_value_mask(self._codes, column)


_Part = _SimilarityPenalty | _CalibrationPenalty


def history_category_shares(histories: Histories, codes: IntArray, item: IntArray) -> DoubleArray:
    """Share of each candidate's category in the user's history: (b, c), 0 where there is none.

    Args:
        histories: (b, t).
        codes: (n,) category of each product, -1 = none.
        item: (b, c) candidates.
    """
    b, c = item.shape
    most = int(codes.max(initial=-1)) + 1
    counts = histories.mask & (histories.event_types != RETURN_CODE) & (codes[histories.items] >= 0)
    user, column = np.nonzero(counts)
    key, times = np.unique(user * most + codes[histories.items[user, column]], return_counts=True)
    total = np.maximum(counts.sum(axis=1), 1)
    mine = codes[item]
    wanted = (np.arange(b)[:, None] * most + mine).ravel()
    found = lookup(key, times, wanted)
    return np.where(mine >= 0, found.reshape(b, c) / total[:, None], 0.0)


def _relevance(score: FloatArray) -> DoubleArray:
    """Scores between 0 and 1 within each user: (b, c) float64."""
    real = np.isfinite(score)
    high = np.where(real, score, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(real, score, np.inf).min(axis=1, initial=np.inf)
    span = np.where(high > low, high.astype(np.float64) - low, 1.0)
    return np.where(real, (np.where(real, score, 0.0) - np.where(np.isfinite(low), low, 0)[:, None]) / span[:, None], 0)
