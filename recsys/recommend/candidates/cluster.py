"""Candidate source `cluster`: products that are popular in the content clusters a user buys from.

In: cluster of each product, popularity of each product. Out: Candidates; the source item is the user's newest product
of the cluster.
"""

from __future__ import annotations

import numpy as np

from recsys.recommend.candidates.item_knn import UserProfile, build_user_profile, lookup, sum_and_top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray


class ClusterSource:
    """Score: the cluster's share of the user's profile times the product's share of the cluster's popularity."""

    name = "cluster"

    def __init__(
        self,
        clusters: IntArray,
        popularity: FloatArray,
        *,
        sellable: np.ndarray | None = None,
        n_per_cluster: int = 50,
        max_history: int = 30,
        decay: float = 0.9,
    ) -> None:
        """Rank the products of each cluster by popularity.

        Args:
            clusters: (n,) int64 cluster of each product, 0.. without gaps.
            popularity: (n,) float32 popularity of each product, >= 0.
            sellable: (n,) bool, products that may be retrieved.
            n_per_cluster: products retrieved from a cluster.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
        """
        self.clusters, self.max_history, self.decay = clusters, max_history, decay
        n_clusters = int(clusters.max(initial=-1)) + 1
        total = np.bincount(clusters, popularity, minlength=n_clusters)
        self.popularity_share = (popularity / np.maximum(total, 1e-9)[clusters]).astype(np.float32)
        eligible = np.flatnonzero((popularity > 0) if sellable is None else (popularity > 0) & sellable)
        order = eligible[np.lexsort((eligible, -self.popularity_share[eligible], clusters[eligible]))]
        rank = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
        self._best = order[rank < n_per_cluster]
        self._starts = np.searchsorted(clusters[self._best], np.arange(n_clusters + 1))

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        user, cluster, weight, newest = self._cluster_shares(
            build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        )
        lengths = self._starts[cluster + 1] - self._starts[cluster]
        row = np.repeat(np.arange(len(cluster)), lengths)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        item = self._best[offset + np.repeat(self._starts[cluster], lengths)]
        return sum_and_top_k(user[row], item, weight[row] * self.popularity_share[item], newest[row], k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile_user, cluster, weight, _ = self._cluster_shares(
            build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        )
        n_clusters = len(self._starts) - 1
        keys = profile_user * n_clusters + cluster
        return lookup(keys, weight, user * n_clusters + self.clusters[item]) * self.popularity_share[item]

    def _cluster_shares(self, profile: UserProfile) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
        """Return user, cluster, its share of the profile and its newest product, by user, then cluster."""
        profile_total = np.bincount(profile.user, profile.weight, minlength=1)
        cluster = self.clusters[profile.item]
        order = np.lexsort((profile.n_newer, cluster, profile.user))
        user, cluster = profile.user[order], cluster[order]
        item, weight = profile.item[order], profile.weight[order]
        first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (cluster[1:] != cluster[:-1])][: len(user)])
        total = np.add.reduceat(weight, first) if len(first) else np.zeros(0, np.float32)
        share = total / np.maximum(profile_total[user[first]], 1e-9)
        return user[first], cluster[first], share.astype(np.float32), item[first]
