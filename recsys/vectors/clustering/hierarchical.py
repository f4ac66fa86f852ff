"""Ward tree over products, cut into any number of clusters; parents of clusters.

In: unit vectors. Out: a `WardTree` to cut; the parent of each cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering import kmeans

MAX_LEAVES: Final = 4000
"""Products up to which each is a leaf.

A tree compares all pairs, so above this the leaves are small clusters.
"""

_SMALL: Final = 2000
"""Leaf clusters of a larger catalogue."""
_MIN_CLUSTERS: Final = 6
"""Clusters below which each is its own parent."""


@dataclass(frozen=True)
class WardTree:
    """Merges of L leaves in the order of the least increase in variance (Ward 1963).

    Attributes:
        leaf: (n,) int64 leaf of each product.
        merges: (L - 1, 2) int64, the two nodes of each merge; below L a leaf, else L + the number of an earlier merge.
    """

    leaf: IntArray = field(repr=False)
    merges: IntArray = field(repr=False)

    @staticmethod
    def fit(vectors: FloatArray, *, seed: int) -> WardTree:
        """Fit the tree of n products; above 4,000 its leaves are 2,000 clusters of spherical k-means.

        Args:
            vectors: (n, d) unit vectors.
            seed: of the leaf clusters.
        """
        from sklearn.cluster import AgglomerativeClustering

        leaf = np.arange(len(vectors), dtype=np.int64)
        points = vectors
        if len(vectors) > MAX_LEAVES:
            leaf = kmeans.kmeans_labels(vectors, _SMALL, seed=seed)
            points = kmeans.cluster_centroids(vectors, leaf)
        if len(points) < 2:
            return WardTree(leaf, np.zeros((0, 2), np.int64))
        method: Any = AgglomerativeClustering(n_clusters=1, linkage="ward", compute_full_tree=True)
        return WardTree(leaf, method.fit(points).children_.astype(np.int64))

    def cut(self, n_clusters: int) -> IntArray:
        """Return the cluster of each product when `n_clusters` clusters remain: (n,) int64.

        Clusters are numbered 0.. by their first leaf.
        """
        leaves = len(self.merges) + 1
        owner = np.arange(leaves + len(self.merges))
        for merge in range(leaves - max(1, min(n_clusters, leaves))):
            owner[self.merges[merge]] = leaves + merge
        for node in range(
            len(owner) - 1, -1, -1
        ):  # a merge has a higher number than its parts: one step each from the top suffices
            owner[node] = owner[owner[node]]
        return np.unique(owner[:leaves], return_inverse=True)[1][self.leaf]


def parent_clusters(vectors: FloatArray, cluster_ids: IntArray) -> dict[int, int]:
    """Return the parent of each cluster: about the square root of the number of clusters in total.

    With fewer than six clusters each is its own parent. A parent's id is the lowest id of its clusters, so it is stable
    as long as cluster ids are.

    Args:
        vectors: (n, d) unit vectors.
        cluster_ids: (n,) int64 cluster ids; below 0 = in no cluster, which has no parent but itself.
    """
    ids = np.unique(cluster_ids[cluster_ids >= 0])
    if len(ids) < _MIN_CLUSTERS:
        return {int(cluster): int(cluster) for cluster in ids}
    parents = WardTree.fit(kmeans.cluster_centroids(vectors, cluster_ids), seed=0).cut(round(len(ids) ** 0.5))
    parent_ids = {int(parent): int(ids[parents == parent].min()) for parent in np.unique(parents)}
    return {int(cluster): parent_ids[int(parent)] for cluster, parent in zip(ids, parents, strict=True)}
