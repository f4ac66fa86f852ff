"""Spherical k-means: so many middles, each product with the one it points at most.

In: unit vectors, a number, sometimes middles to start from. Out: the group of each vector, and how near it is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray

_ITERATIONS: Final = 25
_STARTS: Final = 3
_BLOCK: Final = 65_536


def kmeans_labels(vectors: FloatArray, number: int, *, seed: int, start: FloatArray | None = None) -> IntArray:
    """Group of each vector by spherical k-means (Dhillon and Modha 2001), 0.. without gaps: (n,) int64.

    Args:
        vectors: (n, d) unit vectors, n at least `number`.
        number: of middles; fewer groups come out where vectors are the same.
        seed: of the start.
        start: (number, d) middles to start from instead of three draws.
    """
    return np.unique(assign(vectors, _learned(vectors, number, seed=seed, start=start))[0], return_inverse=True)[1]


def _learned(vectors: FloatArray, number: int, *, seed: int, start: FloatArray | None) -> FloatArray:
    import faiss

    means: Any = faiss.Kmeans(
        vectors.shape[1],
        number,
        niter=_ITERATIONS,
        nredo=1 if start is not None else _STARTS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
    )
    means.train(np.ascontiguousarray(vectors), init_centroids=start)
    return np.asarray(means.centroids, np.float32)


def assign(vectors: FloatArray, middles: FloatArray) -> tuple[IntArray, FloatArray]:
    """The middle each vector points at most, of equals the first, and its cosine: (n,) int64, (n,) float32."""
    group = np.empty(len(vectors), np.int64)
    near = np.empty(len(vectors), np.float32)
    for at in range(0, len(vectors), _BLOCK):
        cosine = vectors[at : at + _BLOCK] @ middles.T
        group[at : at + _BLOCK] = cosine.argmax(axis=1)
        near[at : at + _BLOCK] = cosine.max(axis=1)
    return group, near


def centroids(vectors: FloatArray, group: IntArray) -> FloatArray:
    """Mean direction of each group, in order of the group ids; rows below 0 are in none: (groups, d) float32."""
    held = np.flatnonzero(group >= 0)
    ids, place = np.unique(group[held], return_inverse=True)
    sums = np.zeros((len(ids), vectors.shape[1]), np.float64)
    np.add.at(sums, place, vectors[held])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.ascontiguousarray(sums / np.maximum(lengths, 1e-12), np.float32)


def distances(vectors: FloatArray, group: IntArray) -> FloatArray:
    """1 - cosine of each vector to the middle of its group; NaN for those in none (below 0): (n,) float32."""
    out = np.full(len(vectors), np.nan, np.float32)
    held = np.flatnonzero(group >= 0)
    if len(held):
        centre, place = centroids(vectors, group), np.unique(group[held], return_inverse=True)[1]
        for at in range(0, len(held), _BLOCK):
            rows = held[at : at + _BLOCK]
            cosine = np.einsum("nd,nd->n", vectors[rows], centre[place[at : at + _BLOCK]])
            out[rows] = np.clip(1 - cosine, 0, 2)
    return out


def kmeans_fit_subset(vectors: FloatArray, *, seed: int, among: IntArray, number: int = 0) -> IntArray:
    """Spherical k-means in which some rows have no say: the group of each vector, 0.. without gaps, (n,) int64.

    Args:
        vectors: (n, d) unit vectors.
        seed: of the start.
        among: rows the middles are learned from; the others join the nearest, and change nothing for these.
        number: of groups; 0 = square root of half of `among`.
    """
    if not len(among):
        return np.zeros(len(vectors), np.int64)
    wanted = min(number or max(1, round((len(among) / 2) ** 0.5)), len(among))
    known = np.ascontiguousarray(vectors[among])
    own = kmeans_labels(known, wanted, seed=seed)
    out = assign(vectors, centroids(known, own))[0]
    out[among] = own
    return out
