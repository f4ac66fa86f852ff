"""Approximate top-k search: each query is scored only against the item clusters nearest to it.

In: items (n, d), a sample of the expected queries, the target recall. Out: the result of `ExactScorer`, up to that
recall.

An inverted file (Jegou et al. 2011) searched for thousands of queries at once, cluster by cluster: all queries that
probe a cluster are multiplied with it in one matrix product, which a processor computes much faster than a search
query by query.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import torch

from recsys.errors import UsageError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.clustering.kmeans import kmeans_fit_subset
from recsys.vectors.topk import rescore
from recsys.vectors.topk.exclusions import Exclusions
from recsys.vectors.topk.low_precision import LowPrecisionItems, supports_bf16
from recsys.vectors.topk.scorer import ExactScorer, check_finite, select_threshold_filter
from recsys.vectors.topk.threads import run_in_threads
from recsys.vectors.topk.threshold import STRIDE

logger = logging.getLogger(__name__)

_CLUSTER_SIZE, _MAX_CLUSTERS = 256, 2048
"""Average number of items in a cluster, and the largest number of clusters."""

_QUERY_BLOCK = 4096
"""Queries in one block of a thread, so that each cluster is multiplied with many queries at once."""


class ApproximateScorer:
    """Inverted file over the items.

    `recall` is the recall measured on the sample, `n_probe` the number of clusters scored for each query.
    """

    def __init__(
        self,
        items: FloatArray,
        sample: FloatArray,
        k: int,
        *,
        recall: float = 0.99,
        allowed: BoolArray | None = None,
        seed: int = 0,
        device: str = "cpu",
        filter_backend: str = "auto",
    ) -> None:
        """Cluster the items and raise `n_probe` until the sample reaches the requested recall.

        Args:
            items: (n, d).
            sample: (s, d) queries like those expected.
            k: list length at which the recall is measured.
            recall: share of the true k best that must be found, on average.
            allowed: (n,) bool, items that may be returned; default all.
            seed: random seed of the clustering.
            device: device of the approximate products.
            filter_backend: implementation of the threshold filter, as for `ExactScorer`.

        Raises:
            UsageError: a vector is not finite, or recall is not above 0 and at most 1.
        """
        if not 0 < recall <= 1:
            raise UsageError(f"recall is {recall}; it must be above 0 and at most 1")
        self.exact = ExactScorer(items, allowed=allowed, device=device, filter_backend=filter_backend)
        self.items, self.device, self._filter_backend, self._scored_pairs = items, self.exact.device, filter_backend, 0
        rows = self.exact.rows
        norms = np.linalg.norm(items, axis=1, keepdims=True)
        unit = np.divide(items, norms, out=np.zeros_like(items), where=norms > 0)
        cluster = kmeans_fit_subset(
            unit, seed=seed, rows=rows, n_clusters=min(_MAX_CLUSTERS, max(1, len(rows) // _CLUSTER_SIZE))
        )[rows]
        order = np.argsort(cluster, kind="stable")
        cluster_ends = np.cumsum(np.bincount(cluster)) if len(rows) else np.zeros(0, np.int64)
        self.bounds = np.concatenate([[0], cluster_ends]).astype(np.int64)
        sums = np.add.reduceat(unit[rows[order]].astype(np.float64), self.bounds[:-1], axis=0) if len(rows) else unit
        self.centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        dtype = torch.bfloat16 if supports_bf16(self.device) else torch.float32
        self.low_precision = LowPrecisionItems(
            items, rows[order], self.bounds, dtype=dtype, device=self.device, cache_blocks=True
        )
        self.n_probe, self.recall = self._calibrate_n_probe(check_finite(sample, "sample query"), k, recall)

    def top_k(
        self, queries: FloatArray, k: int, *, excluded: tuple[IntArray, IntArray] | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Find the k best items of each query among the probed clusters; returned scores are exact.

        Arguments and result are those of `ExactScorer.top_k`, except that items of clusters that are not probed are
        missing. Queries whose clusters hold fewer than k items, and queries whose threshold filter overflows, are
        answered by exact search.
        """
        queries = check_finite(queries, "query")
        b = len(queries)
        scores, rows = np.full((b, k), -np.inf, np.float32), np.full((b, k), -1, np.int64)
        exclusions = Exclusions(excluded, b)
        nonzero = queries.any(axis=1) & (not self.low_precision.zero)
        pending = np.flatnonzero(nonzero) if self.n_probe < len(self.centroids) else np.zeros(0, np.int64)
        if len(pending) and k:
            self._scored_pairs += len(pending) * len(self.low_precision.order)
            filter_class = select_threshold_filter(self._filter_backend, self.device, work=self._scored_pairs)
            score_block = partial(self._score_block, filter_class, queries, exclusions, scores, rows)
            run_in_threads(score_block, pending, max_block=_QUERY_BLOCK, device=self.device)
        incomplete = np.flatnonzero((rows < 0).any(axis=1)) if k else np.zeros(0, np.int64)
        if len(incomplete):
            scores[incomplete], rows[incomplete] = self.exact.top_k(
                queries[incomplete], k, excluded=exclusions.for_queries(incomplete)
            )
        return scores, rows

    def _calibrate_n_probe(self, sample: FloatArray, k: int, recall: float) -> tuple[int, float]:
        """Return the lowest `n_probe` that reaches the recall, and the measured recall.

        Where no smaller number does, all clusters are probed, which is exact search.
        """
        n_clusters, self.n_probe = len(self.centroids), 1
        if not len(sample) or not k or not n_clusters:
            return max(1, n_clusters), 1.0
        true_rows = self.exact.top_k(sample, k)[1]
        while self.n_probe < n_clusters:
            rows = self.top_k(sample, k)[1]
            hits = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(true_rows, rows, strict=True))
            measured = hits / max(1, int((true_rows >= 0).sum()))
            if measured >= recall:
                return self.n_probe, measured
            self.n_probe = max(self.n_probe + 1, round(self.n_probe * 1.2))
        logger.warning("approximate search: the sample does not reach recall %g; falling back to exact search", recall)
        return n_clusters, 1.0

    def _score_block(
        self,
        filter_class: type,
        queries: FloatArray,
        exclusions: Exclusions,
        scores: FloatArray,
        rows: IntArray,
        part: IntArray,
    ) -> IntArray:
        """Write the results of the queries `part` into `scores` and `rows`; skip those that overflow."""
        k = scores.shape[1]
        block_queries = np.ascontiguousarray(queries[part])
        rounded_queries, error_bound = self.low_precision.convert_queries(block_queries)
        threshold_filter = filter_class(error_bound, k, dtype=self.low_precision.dtype, max_candidates=16 * k + 1024)
        similarity = block_queries.astype(np.float64) @ self.centroids.T
        kth = len(self.centroids) - self.n_probe
        cluster, user = np.nonzero((similarity >= np.partition(similarity, kth, axis=1)[:, kth : kth + 1]).T)
        starts = np.searchsorted(cluster, np.arange(len(self.centroids) + 1))
        excluded = self._excluded_by_cluster(exclusions, part, cluster * len(part) + user, starts)
        for probed in np.flatnonzero(np.diff(starts)).tolist():
            query = torch.from_numpy(user[starts[probed] : starts[probed + 1]]).to(self.device)
            first, last = int(self.bounds[probed]), int(self.bounds[probed + 1])
            product = torch.empty((len(query), -(-(last - first) // STRIDE) * STRIDE), dtype=self.low_precision.dtype)
            product = product.to(self.device)
            product[:, last - first :] = -torch.inf
            torch.mm(rounded_queries[query], self.low_precision.block(probed), out=product[:, : last - first])
            if probed in excluded:
                excluded_query, excluded_column = excluded[probed]
                product[
                    torch.from_numpy(excluded_query).to(self.device), torch.from_numpy(excluded_column).to(self.device)
                ] = -torch.inf
            threshold_filter.add(product, first, queries=query)
        user, position = (values.cpu().numpy() for values in threshold_filter.candidates())
        row = self.low_precision.order[position]
        best_scores, best_rows = rescore.rank_per_query(
            rescore.exact_scores(block_queries, self.items, user, row), user, row, b=len(part), k=k
        )
        complete = ~threshold_filter.overflowed.cpu().numpy()
        scores[part[complete]], rows[part[complete]] = best_scores[complete], best_rows[complete]
        return part[:0]

    def _excluded_by_cluster(
        self, exclusions: Exclusions, part: IntArray, probed_keys: IntArray, starts: IntArray
    ) -> dict[int, tuple[IntArray, IntArray]]:
        """Map each cluster that holds excluded items to their (rows, columns) in its block of scores.

        Args:
            exclusions: the excluded pairs.
            part: (b,) query numbers of the block.
            probed_keys: (p,) ascending keys `cluster * b + query` of the probed pairs.
            starts: (clusters + 1,) first probed pair of each cluster.
        """
        user, position = exclusions.positions(part, self.low_precision)
        cluster = np.searchsorted(self.bounds, position, side="right") - 1
        keys = cluster * len(part) + user
        probe = np.searchsorted(probed_keys, keys)
        is_probed = probed_keys[np.minimum(probe, len(probed_keys) - 1)] == keys
        cluster, probe, position = cluster[is_probed], probe[is_probed], position[is_probed]
        order = np.argsort(cluster, kind="stable")
        cluster, probe, position = cluster[order], probe[order], position[order]
        probe_row, column = probe - starts[cluster], position - self.bounds[cluster]
        cuts = np.flatnonzero(np.diff(cluster, prepend=-1, append=-1))
        pairs = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        return {int(cluster[a]): (probe_row[a:b], column[a:b]) for a, b in pairs}
