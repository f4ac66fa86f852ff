"""A tree over products: what joins with what, cut into as many groups as wanted; and groups joined into parents.

In: unit vectors. Out: a `WardTree` to cut; the parent of each group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering import kmeans

LEAVES: Final = 4000
"""Products a tree grows over one by one. A tree compares all pairs, so of more products it joins small groups."""

_SMALL: Final = 2000
_FEWEST: Final = 6


@dataclass(frozen=True)
class WardTree:
    """Joins of L leaves, first those that widen the groups least (Ward 1963).

    Attributes:
        leaf: (n,) int64 leaf of each product.
        joins: (L - 1, 2) int64, which two nodes join; below L a leaf, else L + the number of an earlier join.
    """

    leaf: IntArray = field(repr=False)
    joins: IntArray = field(repr=False)

    @staticmethod
    def fit(vectors: FloatArray, *, seed: int) -> WardTree:
        """The tree of n products; over 4,000 it joins 2,000 small groups of spherical k-means.

        Args:
            vectors: (n, d) unit vectors.
            seed: of the small groups.
        """
        from sklearn.cluster import AgglomerativeClustering

        leaf = np.arange(len(vectors), dtype=np.int64)
        points = vectors
        if len(vectors) > LEAVES:
            leaf = kmeans.kmeans_labels(vectors, _SMALL, seed=seed)
            points = kmeans.centroids(vectors, leaf)
        if len(points) < 2:
            return WardTree(leaf, np.zeros((0, 2), np.int64))
        method: Any = AgglomerativeClustering(n_clusters=1, linkage="ward", compute_full_tree=True)
        return WardTree(leaf, method.fit(points).children_.astype(np.int64))

    def cut(self, number: int) -> IntArray:
        """The group of each product when `number` groups are left, 0.. in order of their first leaf: (n,) int64."""
        leaves = len(self.joins) + 1
        owner = np.arange(leaves + len(self.joins))
        for at in range(leaves - max(1, min(number, leaves))):
            owner[self.joins[at]] = leaves + at
        for node in range(len(owner) - 1, -1, -1):  # a join comes after what it joins: from above, one step each
            owner[node] = owner[owner[node]]
        return np.unique(owner[:leaves], return_inverse=True)[1][self.leaf]


def parent_clusters(vectors: FloatArray, group: IntArray) -> dict[int, int]:
    """The parent of each group: about as many as the root of the number of groups; each its own under six groups.

    A parent is called by the lowest id of its groups, so that it stays when groups are renumbered by nobody.

    Args:
        vectors: (n, d) unit vectors.
        group: (n,) int64 group ids; below 0 = in none, which has no parent but itself.
    """
    ids = np.unique(group[group >= 0])
    if len(ids) < _FEWEST:
        return {int(one): int(one) for one in ids}
    cut = WardTree.fit(kmeans.centroids(vectors, group), seed=0).cut(round(len(ids) ** 0.5))
    first = {int(part): int(ids[cut == part].min()) for part in np.unique(cut)}
    return {int(one): first[int(part)] for one, part in zip(ids, cut, strict=True)}
