"""HDBSCAN clusters of dense regions; sparse products are in no cluster.

In: unit vectors, the minimum cluster size. Out: the cluster of each vector, -1 = none.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray

NONE: Final = -1
"""Label of products in no cluster."""

_N_COMPONENTS: Final = 16
"""Principal components to which vectors are reduced."""
_SAMPLE: Final = 10_000
"""Products clustered directly, at most; the others follow their neighbours in the sample."""
_N_NEIGHBOURS: Final = 5
_BLOCK: Final = 4096


def default_min_cluster_size(n: int) -> int:
    """Return the default minimum cluster size for n products: a quarter of the square root, at least 5."""
    return max(5, round(math.sqrt(n) / 4))


def hdbscan_labels(vectors: FloatArray, min_cluster_size: int, *, seed: int) -> IntArray:
    """Return the cluster of each vector by HDBSCAN (Campello et al. 2013): (n,) int64.

    Labels are 0.. without gaps, -1 = none. Density means little in many dimensions and is slow to measure, so vectors
    are reduced to their 16 principal components first. Above 10,000 products a sample is clustered, with a
    proportionally smaller minimum size, and the others join the cluster of their nearest neighbours in the sample.

    Args:
        vectors: (n, d) unit vectors.
        min_cluster_size: minimum cluster size, at least 2.
        seed: of the sample and of the components.
    """
    from sklearn.cluster import HDBSCAN

    n = len(vectors)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:_SAMPLE])
    min_size = max(2, round(min_cluster_size * len(rows) / n)) if n else min_cluster_size
    if len(rows) <= min_size:
        return np.full(n, NONE, np.int64)
    reduced = _reduce_dimensions(vectors, rows, seed=seed)
    method: Any = HDBSCAN(
        min_cluster_size=min_size,
        min_samples=min(_N_NEIGHBOURS, min_size),
        cluster_selection_method="leaf",
        n_jobs=1,
        copy=True,
    )
    sample_labels = method.fit(reduced[rows]).labels_.astype(np.int64)
    sample_labels[sample_labels < 0] = NONE
    out = np.empty(n, np.int64)
    rest = np.setdiff1d(np.arange(n), rows, assume_unique=True)
    out[rows] = sample_labels
    out[rest] = assign_by_neighbours(reduced[rest], reduced[rows], sample_labels)
    return out


def assign_by_neighbours(vectors: FloatArray, known: FloatArray, labels: IntArray) -> IntArray:
    """Return the majority cluster of the five nearest known vectors: (q,) int64.

    Ties go to the nearest.

    Args:
        vectors: (q, d).
        known: (m, d), m at least 1.
        labels: (m,) int64; -1 is treated as a cluster, so vectors next to unclustered products are unclustered.
    """
    import faiss

    out = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        _, neighbours = faiss.knn(
            np.ascontiguousarray(vectors[start : start + _BLOCK]),
            np.ascontiguousarray(known),
            min(_N_NEIGHBOURS, len(known)),
        )
        votes = labels[neighbours]
        # of ties argmax takes the first, which is the nearest
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
        out[start : start + _BLOCK] = np.take_along_axis(votes, counts.argmax(axis=1)[:, None], 1)[:, 0]
    return out


def _reduce_dimensions(vectors: FloatArray, rows: IntArray, *, seed: int) -> FloatArray:
    """Reduce vectors to principal components fitted on some rows: (n, at most 16) float32."""
    from sklearn.decomposition import PCA

    n_components = min(_N_COMPONENTS, vectors.shape[1], len(rows))
    method = PCA(
        n_components, svd_solver="covariance_eigh" if len(rows) > vectors.shape[1] else "full", random_state=seed
    )
    return np.ascontiguousarray(method.fit(vectors[rows]).transform(vectors), np.float32)
