"""Which of several groupings to take: silhouettes on a sample, and what counts as clearly better.

In: unit vectors, groupings of them. Out: the one that is worth it, with the figures it was chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.types import DoubleArray, FloatArray, IntArray

MOST: Final = 300
"""Groups at most where nobody says how many: more than that nobody reads."""

_FEW: Final = 8
"""Fewer products are one group."""

_STEPS: Final = 7
_SAMPLE: Final = 4000
_ERRORS: Final = 2.0
_NOTED: Final = 0.005
_GIVEN_UP: Final = 0.02
"""What a silhouette must gain for more groups to be taken, and for groups that were there to be given up."""


@dataclass(frozen=True)
class ClusteringTrial:
    """One grouping and how well it holds.

    Attributes:
        group: (n,) int64, below 0 = in no group.
        kept: whether it is the grouping of last time, brought up to date.
        values: (s,) silhouettes of the sampled products.
    """

    group: IntArray = field(repr=False)
    kept: bool = False
    values: DoubleArray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def number(self) -> int:
        """Groups."""
        return len(np.unique(self.group[self.group >= 0]))

    @property
    def silhouette(self) -> float:
        """Mean of the sample."""
        return float(self.values.mean()) if len(self.values) else 0.0

    def clearly_above(self, other: ClusteringTrial, *, least: float = _NOTED) -> bool:
        """Whether the mean silhouette is higher by more than `least` and by more than chance.

        The same products are compared one by one; chance is two standard errors of the mean difference.
        """
        gain = self.values - other.values
        error = float(gain.std() / max(1, len(gain)) ** 0.5) if len(gain) else 0.0
        return bool(len(gain)) and float(gain.mean()) > max(least, _ERRORS * error)


class SilhouetteScorer:
    """Silhouettes (Rousseeuw 1987) by cosine on one sample of the products, at most 4,000, the same for every grouping.

    Args:
        vectors: (n, d) unit vectors.
        seed: of the sample.
    """

    def __init__(self, vectors: FloatArray, *, seed: int) -> None:
        self._rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLE])
        some = vectors[self._rows]
        self._apart = np.clip(1 - some @ some.T, 0, 2)
        np.fill_diagonal(self._apart, 0)

    def judged(self, group: IntArray, *, kept: bool = False) -> ClusteringTrial:
        """A grouping with its silhouettes; 0 for a product in no group, or alone in its group."""
        from sklearn.metrics import silhouette_samples

        own = group[self._rows]
        held = np.flatnonzero(own >= 0)
        values = np.zeros(len(own))
        number = len(np.unique(own[held]))
        if 1 < number < len(held):
            apart = self._apart if len(held) == len(own) else self._apart[np.ix_(held, held)]
            values[held] = silhouette_samples(apart, own[held], metric="precomputed")
        return ClusteringTrial(group, kept, values)


def select_trial(trials: Sequence[ClusteringTrial]) -> ClusteringTrial:
    """The kept grouping unless another is clearly better; of the others the fewest groups not clearly worse than best.

    To give up what was kept takes a larger gain than to choose: else a number of groups that was only just chosen
    would be given up for a breath the next night.

    Args:
        trials: at least one, judged on the same sample; at most one of them kept.
    """
    fresh = sorted((trial for trial in trials if not trial.kept), key=lambda trial: trial.number)
    kept = next((trial for trial in trials if trial.kept), None)
    if not fresh:
        assert kept is not None  # noqa: S101 - the caller gives one at least
        return kept
    best = max(fresh, key=lambda trial: trial.silhouette)
    if kept is not None and not best.clearly_above(kept, least=_GIVEN_UP):
        return kept
    return next(trial for trial in fresh if not best.clearly_above(trial))


def candidate_cluster_counts(n: int) -> list[int]:
    """Numbers of groups worth trying for n products, ascending.

    From half to twice the square root of half the products, in seven equal ratios, 300 at most: 35 to 141 for 10,000
    products, and one group for fewer than eight. Silhouettes alone would often take two or three groups, which tell
    nobody anything about a catalogue.
    """
    usual = (n / 2) ** 0.5
    high = min(round(2 * usual), MOST, n - 1)
    low = min(max(2, round(usual / 2)), MOST // 3)
    if n < _FEW:
        return [1]
    return sorted({round(float(value)) for value in np.geomspace(low, high, _STEPS)})


def is_acceptable_count(number: int, n: int) -> bool:
    """Whether so many groups may stay as they are: within the numbers worth trying, or a quarter beside them."""
    tried = candidate_cluster_counts(n)
    return tried[0] / 1.25 <= number <= tried[-1] * 1.25
