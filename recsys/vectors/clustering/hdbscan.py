"""Groups where products lie densely (HDBSCAN); what lies between them is in no group.

In: unit vectors, the fewest products of a group. Out: the group of each vector, -1 = none.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray

NONE: Final = -1
"""The group of products in no group."""

_DIMENSIONS: Final = 16
_SAMPLE: Final = 10_000
_NEAR: Final = 5
_BLOCK: Final = 4096


def default_min_cluster_size(n: int) -> int:
    """The fewest products of a group for n products where nobody says: a quarter of the root, 5 at least."""
    return max(5, round(math.sqrt(n) / 4))


def hdbscan_labels(vectors: FloatArray, smallest: int, *, seed: int) -> IntArray:
    """Group of each vector by HDBSCAN (Campello et al. 2013), 0.. without gaps, -1 = none: (n,) int64.

    Density means little in many dimensions and takes long to measure, so vectors are shortened to their 16 principal
    components first. Over 10,000 products it looks at a sample, with groups as much smaller, and the others go with
    their nearest of the sample.

    Args:
        vectors: (n, d) unit vectors.
        smallest: fewest products of a group, at least 2.
        seed: of the sample and of the components.
    """
    from sklearn.cluster import HDBSCAN

    n = len(vectors)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:_SAMPLE])
    least = max(2, round(smallest * len(rows) / n)) if n else smallest
    if len(rows) <= least:
        return np.full(n, NONE, np.int64)
    short = _shortened(vectors, rows, seed=seed)
    method: Any = HDBSCAN(
        min_cluster_size=least, min_samples=min(_NEAR, least), cluster_selection_method="leaf", n_jobs=1, copy=True
    )
    own = method.fit(short[rows]).labels_.astype(np.int64)
    own[own < 0] = NONE
    out = np.empty(n, np.int64)
    rest = np.setdiff1d(np.arange(n), rows, assume_unique=True)
    out[rows] = own
    out[rest] = assign_by_neighbours(short[rest], short[rows], own)
    return out


def assign_by_neighbours(asked: FloatArray, known: FloatArray, group: IntArray) -> IntArray:
    """The group that most of the five nearest known vectors are in, of equals that of the nearest: (q,) int64.

    Args:
        asked: (q, d).
        known: (m, d), m at least 1.
        group: (m,) int64; -1 is a group like any other here: beside products in no group one is in none.
    """
    import faiss

    out = np.empty(len(asked), np.int64)
    for at in range(0, len(asked), _BLOCK):
        _, found = faiss.knn(
            np.ascontiguousarray(asked[at : at + _BLOCK]), np.ascontiguousarray(known), min(_NEAR, len(known))
        )
        votes = group[found]
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # argmax takes the first, the nearest, of equals
        out[at : at + _BLOCK] = np.take_along_axis(votes, counts.argmax(axis=1)[:, None], 1)[:, 0]
    return out


def _shortened(vectors: FloatArray, rows: IntArray, *, seed: int) -> FloatArray:
    """Principal components, learned from some rows: (n, at most 16) float32."""
    from sklearn.decomposition import PCA

    length = min(_DIMENSIONS, vectors.shape[1], len(rows))
    method = PCA(length, svd_solver="covariance_eigh" if len(rows) > vectors.shape[1] else "full", random_state=seed)
    return np.ascontiguousarray(method.fit(vectors[rows]).transform(vectors), np.float32)
