"""The ways of grouping products: what each proposes, and what keeping the groups of last time comes to.

In: unit vectors, settings, the group each product had. Out: the grouping taken, and all that were looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.config import ClusterSettings
from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering import hdbscan as density
from recsys.vectors.clustering import kmeans
from recsys.vectors.clustering.hierarchical import WardTree
from recsys.vectors.clustering.id_matching import UNKNOWN
from recsys.vectors.clustering.silhouette import (
    ClusteringTrial,
    SilhouetteScorer,
    candidate_cluster_counts,
    is_acceptable_count,
    select_trial,
)

_FARTHER = 2.0
"""A product leaves a group that is kept when it is so many times as far from its middle as from another's."""


@dataclass(frozen=True)
class ClusteringResult:
    """What was found.

    Attributes:
        taken: the grouping.
        trials: all that were judged, the taken one among them.
        warnings: what to tell.
    """

    taken: ClusteringTrial
    trials: tuple[ClusteringTrial, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()


def run_clustering(
    vectors: FloatArray, settings: ClusterSettings, *, seed: int, last: IntArray | None
) -> ClusteringResult:
    """Group n products, n at least 1.

    Without a number of groups several are tried and silhouettes choose, see `choice`. Groups of last time stay, with
    products that came joined to them, until a new grouping is clearly better; so one night's chance moves nothing.

    Args:
        vectors: (n, d) unit vectors.
        settings: method, number of groups, fewest products of one.
        seed: of every draw.
        last: (n,) the groups of last time made the same way, -1 = in none, -2 = unknown; None = nothing to keep.
    """
    n = len(vectors)
    if n == 1 or float(np.ptp(vectors, axis=0).max()) < 1e-6:
        said = (f"all {n:,} products have the same vector, so they are one group; run 'recsys train'",) if n > 1 else ()
        only = ClusteringTrial(np.zeros(n, np.int64))
        return ClusteringResult(only, (only,), said)
    judge = SilhouetteScorer(vectors, seed=seed)
    wanted = [min(settings.number, n)] if settings.number else candidate_cluster_counts(n)
    trials = [judge.judged(group) for group in _fresh(vectors, settings, wanted, seed=seed)]
    before = 0 if last is None else len(np.unique(last[last >= 0]))
    fits = (
        before == settings.number if settings.number else settings.method == "hdbscan" or is_acceptable_count(before, n)
    )
    if last is not None and before and fits:
        trials.append(judge.judged(_kept(vectors, settings.method, last, before, seed=seed), kept=True))
    taken = select_trial(trials)
    return ClusteringResult(taken, tuple(trials), tuple(_reassign_outliers(taken, settings, n)))


def _fresh(vectors: FloatArray, settings: ClusterSettings, wanted: list[int], *, seed: int) -> list[IntArray]:
    if settings.method == "hdbscan":
        smallest = settings.smallest or density.default_min_cluster_size(len(vectors))
        return [density.hdbscan_labels(vectors, smallest, seed=seed)]
    if settings.method == "agglomerative":
        tree = WardTree.fit(vectors, seed=seed)
        return [tree.cut(number) for number in wanted]
    return [kmeans.kmeans_labels(vectors, number, seed=seed) for number in wanted]


def _kept(vectors: FloatArray, method: str, last: IntArray, number: int, *, seed: int) -> IntArray:
    """The groups of last time brought up to date: (n,) int64, 0.. without gaps, -1 = in none.

    k-means goes on from their middles. The other two have no middles to go on from: products stay where they were,
    those that came join the middle (HDBSCAN: the neighbours) nearest to them, and so do those whose content has
    changed so much that another middle is twice as near as their own.
    """
    middles = kmeans.centroids(vectors, last)
    if method == "kmeans":
        return kmeans.kmeans_labels(vectors, number, seed=seed, start=middles)
    ids = np.unique(last[last >= 0])
    out = np.where(last >= 0, np.searchsorted(ids, last), last)
    best, near = kmeans.assign(vectors, middles)
    held = np.flatnonzero(out >= 0)
    own = np.einsum("nd,nd->n", vectors[held], middles[out[held]])
    moved = held[1 - own > _FARTHER * (1 - near[held]) + 1e-6]
    astray = np.union1d(moved, np.flatnonzero(out == UNKNOWN))
    if method == "agglomerative":
        none = np.flatnonzero(out < 0)
        out[moved], out[none] = best[moved], best[none]
    elif len(astray):
        known = np.setdiff1d(np.arange(len(out)), astray, assume_unique=True)
        out[astray] = (
            density.assign_by_neighbours(vectors[astray], vectors[known], out[known]) if len(known) else density.NONE
        )
    held = np.flatnonzero(out >= 0)
    out[held] = np.unique(out[held], return_inverse=True)[1]
    return out


def _reassign_outliers(taken: ClusteringTrial, settings: ClusterSettings, n: int) -> list[str]:
    if settings.number > n:
        return [f"{settings.number} groups were asked for, but there are {n:,} products: {taken.number} groups"]
    if settings.number > taken.number:
        return [f"{settings.number} groups were asked for, {taken.number} found: many products have the same vector"]
    none = int((taken.group < 0).sum())
    if settings.method == "hdbscan" and 2 * none > n:
        said = "hdbscan found no group" if none == n else f"hdbscan left {none / n:.0%} of the products in no group"
        smallest = settings.smallest or density.default_min_cluster_size(n)
        return [
            f"{said} (each is to have {smallest} products or more): lower [cluster] smallest, or take method = kmeans"
        ]
    return []
