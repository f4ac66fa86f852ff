"""Clustering methods: fit new clusterings, update the previous one, and select one of them.

In: unit vectors, settings, the previous cluster of each product. Out: the selected clustering and all trials.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.config import ClusterSettings
from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering import hdbscan, kmeans
from recsys.vectors.clustering.hierarchical import WardTree
from recsys.vectors.clustering.id_matching import UNKNOWN
from recsys.vectors.clustering.silhouette import (
    ClusteringTrial,
    SilhouetteScorer,
    candidate_cluster_counts,
    is_acceptable_count,
    select_trial,
)

_LEAVE_RATIO = 2.0
"""Distance ratio from which a product leaves a kept cluster for a nearer centroid."""


@dataclass(frozen=True)
class ClusteringResult:
    """Result of a clustering run.

    Attributes:
        selected: the selected clustering.
        trials: all clusterings that were scored, including the selected one.
        warnings: messages for the user.
    """

    selected: ClusteringTrial
    trials: tuple[ClusteringTrial, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()


def run_clustering(
    vectors: FloatArray, settings: ClusterSettings, *, seed: int, previous: IntArray | None
) -> ClusteringResult:
    """Cluster n products, n at least 1.

    Without a fixed number of clusters several are tried and selected by silhouette, see `silhouette`. The previous
    clusters stay, with new products assigned to them, until a new clustering is clearly better, so that the chance of
    one run changes nothing.

    Args:
        vectors: (n, d) unit vectors.
        settings: method, number of clusters, minimum cluster size.
        seed: random seed.
        previous: (n,) previous clusters by the same method, -1 = in none, -2 = unknown; None = nothing to keep.
    """
    n = len(vectors)
    if n == 1 or float(np.ptp(vectors, axis=0).max()) < 1e-6:
        warnings = (
            (f"all {n:,} products have the same vector, so they are one cluster; run 'recsys train'",) if n > 1 else ()
        )
        trial = ClusteringTrial(np.zeros(n, np.int64))
        return ClusteringResult(trial, (trial,), warnings)
    scorer = SilhouetteScorer(vectors, seed=seed)
    counts = [min(settings.number, n)] if settings.number else candidate_cluster_counts(n)
    trials = [scorer.score(group) for group in _fit_candidates(vectors, settings, counts, seed=seed)]
    n_previous = 0 if previous is None else len(np.unique(previous[previous >= 0]))
    is_valid = (
        n_previous == settings.number
        if settings.number
        else settings.method == "hdbscan" or is_acceptable_count(n_previous, n)
    )
    if previous is not None and n_previous and is_valid:
        trials.append(
            scorer.score(_update_previous(vectors, settings.method, previous, n_previous, seed=seed), is_previous=True)
        )
    selected = select_trial(trials)
    return ClusteringResult(selected, tuple(trials), tuple(_result_warnings(selected, settings, n)))


def _fit_candidates(vectors: FloatArray, settings: ClusterSettings, counts: list[int], *, seed: int) -> list[IntArray]:
    """Fit a new clustering for each number of clusters; HDBSCAN finds its own number."""
    if settings.method == "hdbscan":
        min_size = settings.smallest or hdbscan.default_min_cluster_size(len(vectors))
        return [hdbscan.hdbscan_labels(vectors, min_size, seed=seed)]
    if settings.method == "agglomerative":
        tree = WardTree.fit(vectors, seed=seed)
        return [tree.cut(number) for number in counts]
    return [kmeans.kmeans_labels(vectors, number, seed=seed) for number in counts]


def _update_previous(vectors: FloatArray, method: str, previous: IntArray, n_clusters: int, *, seed: int) -> IntArray:
    """Update the previous clusters: (n,) int64, 0.. without gaps, -1 = in none.

    k-means continues from their centroids. The other methods have no centroids to continue from: products stay in their
    cluster; new products join the nearest centroid (HDBSCAN: neighbours), and so do products whose content changed so
    much that another centroid is twice as near as their own.
    """
    centroids = kmeans.cluster_centroids(vectors, previous)
    if method == "kmeans":
        return kmeans.kmeans_labels(vectors, n_clusters, seed=seed, initial_centroids=centroids)
    ids = np.unique(previous[previous >= 0])
    out = np.where(previous >= 0, np.searchsorted(ids, previous), previous)
    nearest, nearest_cosine = kmeans.assign_to_centroids(vectors, centroids)
    clustered = np.flatnonzero(out >= 0)
    own_cosine = np.einsum("nd,nd->n", vectors[clustered], centroids[out[clustered]])
    moved = clustered[1 - own_cosine > _LEAVE_RATIO * (1 - nearest_cosine[clustered]) + 1e-6]
    unassigned = np.union1d(moved, np.flatnonzero(out == UNKNOWN))
    if method == "agglomerative":
        unclustered = np.flatnonzero(out < 0)
        out[moved], out[unclustered] = nearest[moved], nearest[unclustered]
    elif len(unassigned):
        assigned = np.setdiff1d(np.arange(len(out)), unassigned, assume_unique=True)
        out[unassigned] = (
            hdbscan.assign_by_neighbours(vectors[unassigned], vectors[assigned], out[assigned])
            if len(assigned)
            else hdbscan.NONE
        )
    clustered = np.flatnonzero(out >= 0)
    out[clustered] = np.unique(out[clustered], return_inverse=True)[1]
    return out


def _result_warnings(selected: ClusteringTrial, settings: ClusterSettings, n: int) -> list[str]:
    """Return warnings about a clustering that differs from the settings."""
    if settings.number > n:
        return [f"[cluster] number is {settings.number}, but there are {n:,} products: {selected.n_clusters} clusters"]
    if settings.number > selected.n_clusters:
        return [
            f"[cluster] number is {settings.number}, but {selected.n_clusters} clusters were found: many "
            "products have the same vector"
        ]
    n_unclustered = int((selected.labels < 0).sum())
    if settings.method == "hdbscan" and 2 * n_unclustered > n:
        problem = (
            "hdbscan found no cluster"
            if n_unclustered == n
            else f"hdbscan left {n_unclustered / n:.0%} of the products in no cluster"
        )
        min_size = settings.smallest or hdbscan.default_min_cluster_size(n)
        return [f"{problem} (minimum size {min_size} products); lower [cluster] smallest, or set method = kmeans"]
    return []
