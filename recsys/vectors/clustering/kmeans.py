"""Spherical k-means: unit vectors are assigned to the centroid with the highest cosine.

In: unit vectors, a number of clusters, optionally initial centroids. Out: the cluster of each vector, and its cosine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray

_ITERATIONS: Final = 25
_STARTS: Final = 3
_BLOCK: Final = 65_536


def kmeans_labels(
    vectors: FloatArray, n_clusters: int, *, seed: int, initial_centroids: FloatArray | None = None
) -> IntArray:
    """Return the cluster of each vector: (n,) int64, 0.. without gaps.

    Spherical k-means (Dhillon and Modha 2001).

    Args:
        vectors: (n, d) unit vectors, n at least `n_clusters`.
        n_clusters: of centroids; fewer clusters result where vectors are equal.
        seed: of the initial centroids.
        initial_centroids: (number, d) initial centroids instead of three random starts.
    """
    return np.unique(
        assign_to_centroids(vectors, _fit_centroids(vectors, n_clusters, seed=seed, start=initial_centroids))[0],
        return_inverse=True,
    )[1]


def _fit_centroids(vectors: FloatArray, number: int, *, seed: int, start: FloatArray | None) -> FloatArray:
    """Fit spherical k-means; returns the centroids (number, d)."""
    import faiss

    kmeans: Any = faiss.Kmeans(
        vectors.shape[1],
        number,
        niter=_ITERATIONS,
        nredo=1 if start is not None else _STARTS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
    )
    kmeans.train(np.ascontiguousarray(vectors), init_centroids=start)
    return np.asarray(kmeans.centroids, np.float32)


def assign_to_centroids(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the centroid with the highest cosine to each vector and the cosine: (n,) int64, (n,) float32.

    Ties go to the first centroid.
    """
    labels = np.empty(len(vectors), np.int64)
    best_cosine = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        cosine = vectors[start : start + _BLOCK] @ centroids.T
        labels[start : start + _BLOCK] = cosine.argmax(axis=1)
        best_cosine[start : start + _BLOCK] = cosine.max(axis=1)
    return labels, best_cosine


def cluster_centroids(vectors: FloatArray, labels: IntArray) -> FloatArray:
    """Return the mean direction of each cluster, by cluster id: (clusters, d) float32.

    Rows with an id below 0 are in no cluster.
    """
    members = np.flatnonzero(labels >= 0)
    ids, position = np.unique(labels[members], return_inverse=True)
    sums = np.zeros((len(ids), vectors.shape[1]), np.float64)
    np.add.at(sums, position, vectors[members])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.ascontiguousarray(sums / np.maximum(norms, 1e-12), np.float32)


def centroid_distances(vectors: FloatArray, labels: IntArray) -> FloatArray:
    """Return 1 - cosine of each vector to its cluster's centroid: (n,) float32; NaN for ids below 0."""
    out = np.full(len(vectors), np.nan, np.float32)
    members = np.flatnonzero(labels >= 0)
    if len(members):
        means, position = cluster_centroids(vectors, labels), np.unique(labels[members], return_inverse=True)[1]
        for start in range(0, len(members), _BLOCK):
            rows = members[start : start + _BLOCK]
            cosine = np.einsum("nd,nd->n", vectors[rows], means[position[start : start + _BLOCK]])
            out[rows] = np.clip(1 - cosine, 0, 2)
    return out


def kmeans_fit_subset(vectors: FloatArray, *, seed: int, rows: IntArray, n_clusters: int = 0) -> IntArray:
    """Fit spherical k-means on a subset of rows and assign all: (n,) int64 labels, 0.. without gaps.

    Args:
        vectors: (n, d) unit vectors.
        seed: of the initial centroids.
        rows: rows the centroids are fitted on; the others join the nearest and do not change the labels of these.
        n_clusters: of clusters; 0 = square root of half of `rows`.
    """
    if not len(rows):
        return np.zeros(len(vectors), np.int64)
    k = min(n_clusters or max(1, round((len(rows) / 2) ** 0.5)), len(rows))
    subset = np.ascontiguousarray(vectors[rows])
    subset_labels = kmeans_labels(subset, k, seed=seed)
    out = assign_to_centroids(vectors, cluster_centroids(subset, subset_labels))[0]
    out[rows] = subset_labels
    return out
