"""Compare clusterings by silhouette on a sample, and select one.

In: unit vectors, clusterings of them. Out: the selected clustering, with the statistics of the selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.types import DoubleArray, FloatArray, IntArray

MAX_CLUSTERS: Final = 300
"""Default maximum number of clusters: a reader cannot review more."""

_MIN_PRODUCTS: Final = 8
"""Fewer products form one cluster."""

_N_CANDIDATES: Final = 7
_SAMPLE: Final = 4000
"""Products on which silhouettes are computed, at most."""
_STANDARD_ERRORS: Final = 2.0
_MIN_GAIN: Final = 0.005
"""Gain in silhouette required for more clusters."""
_MIN_GAIN_OVER_PREVIOUS: Final = 0.02
"""Gain in silhouette required to replace the previous clusters."""


@dataclass(frozen=True)
class ClusteringTrial:
    """One clustering and its silhouettes.

    Attributes:
        labels: (n,) int64 cluster of each product, below 0 = in no cluster.
        is_previous: whether it is the updated previous clustering.
        silhouettes: (s,) silhouettes of the sampled products.
    """

    labels: IntArray = field(repr=False)
    is_previous: bool = False
    silhouettes: DoubleArray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(np.unique(self.labels[self.labels >= 0]))

    @property
    def silhouette(self) -> float:
        """Mean silhouette of the sample."""
        return float(self.silhouettes.mean()) if len(self.silhouettes) else 0.0

    def is_clearly_better(self, other: ClusteringTrial, *, min_gain: float = _MIN_GAIN) -> bool:
        """Return whether the mean silhouette is higher by more than `min_gain` and by more than chance.

        The products are compared pairwise; chance is two standard errors of the mean difference.
        """
        gains = self.silhouettes - other.silhouettes
        standard_error = float(gains.std() / max(1, len(gains)) ** 0.5) if len(gains) else 0.0
        return bool(len(gains)) and float(gains.mean()) > max(min_gain, _STANDARD_ERRORS * standard_error)


class SilhouetteScorer:
    """Cosine silhouettes (Rousseeuw 1987) on one sample of at most 4,000 products for all clusterings.

    Args:
        vectors: (n, d) unit vectors.
        seed: of the sample.
    """

    def __init__(self, vectors: FloatArray, *, seed: int) -> None:
        self._rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLE])
        sample = vectors[self._rows]
        self._distances = np.clip(1 - sample @ sample.T, 0, 2)
        np.fill_diagonal(self._distances, 0)

    def score(self, labels: IntArray, *, is_previous: bool = False) -> ClusteringTrial:
        """Return a trial with its silhouettes; 0 for a product in no cluster, or alone in its cluster."""
        from sklearn.metrics import silhouette_samples

        sample_labels = labels[self._rows]
        clustered = np.flatnonzero(sample_labels >= 0)
        values = np.zeros(len(sample_labels))
        number = len(np.unique(sample_labels[clustered]))
        if 1 < number < len(clustered):
            distances = (
                self._distances
                if len(clustered) == len(sample_labels)
                else self._distances[np.ix_(clustered, clustered)]
            )
            values[clustered] = silhouette_samples(distances, sample_labels[clustered], metric="precomputed")
        return ClusteringTrial(labels, is_previous, values)


def select_trial(trials: Sequence[ClusteringTrial]) -> ClusteringTrial:
    """Select the updated previous clustering unless another is clearly better.

    Of the others it selects the one with the fewest clusters that is not clearly worse than the best. Replacing the
    previous clustering requires a larger gain than selecting a number: otherwise a number selected by a narrow margin
    would be replaced by a negligible difference in the next run.

    Args:
        trials: at least one, scored on the same sample; at most one of them `kept`.
    """
    candidates = sorted((trial for trial in trials if not trial.is_previous), key=lambda trial: trial.n_clusters)
    previous = next((trial for trial in trials if trial.is_previous), None)
    if not candidates:
        assert previous is not None  # noqa: S101 - the caller passes at least one
        return previous
    best = max(candidates, key=lambda trial: trial.silhouette)
    if previous is not None and not best.is_clearly_better(previous, min_gain=_MIN_GAIN_OVER_PREVIOUS):
        return previous
    return next(trial for trial in candidates if not best.is_clearly_better(trial))


def candidate_cluster_counts(n: int) -> list[int]:
    """Return numbers of clusters to try for n products, ascending.

    From half to twice the square root of half the products, in seven equal ratios, 300 at most: 35 to 141 for 10,000
    products, and one cluster for fewer than eight. Silhouettes alone would often select two or three clusters, which
    say nothing about a catalogue.
    """
    centre = (n / 2) ** 0.5
    high = min(round(2 * centre), MAX_CLUSTERS, n - 1)
    low = min(max(2, round(centre / 2)), MAX_CLUSTERS // 3)
    if n < _MIN_PRODUCTS:
        return [1]
    return sorted({round(float(value)) for value in np.geomspace(low, high, _N_CANDIDATES)})


def is_acceptable_count(number: int, n: int) -> bool:
    """Return whether a number of clusters may stay: within the candidates, or a quarter beyond."""
    candidates = candidate_cluster_counts(n)
    return candidates[0] / 1.25 <= number <= candidates[-1] * 1.25
