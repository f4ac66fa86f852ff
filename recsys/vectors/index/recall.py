"""Measure recall and latency of an index against exact search, on sampled catalogue queries.

In: vectors (n, d), a seed. Out: recall of the true ten nearest, milliseconds of single queries, queries a second.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.index.flat import FlatIndex

K: Final = 10
"""Neighbours that are compared."""
_MAX_QUERIES: Final = 256
"""Queries sampled of each kind, at most."""
_SINGLE_QUERIES: Final = 128
"""Queries timed one by one, at most."""
_TIME_LIMIT_S: Final = 2.0
"""Seconds after which no further single query is timed."""


class SearchProtocol(Protocol):
    """Interface of an index that can be measured."""

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """See `recsys.vectors.index.build.VectorIndex`."""
        ...


@dataclass(frozen=True)
class SearchLatency:
    """Latency of an index for ten neighbours.

    Attributes:
        median_ms: of single queries.
        p95_ms: of single queries; 19 of 20 are quicker.
        per_second: queries a second, with the full sample in one call.
    """

    median_ms: float
    p95_ms: float
    per_second: float


@dataclass(frozen=True)
class IndexMetrics:
    """Recall and latency of an index.

    Attributes:
        recall: share of the true ten nearest neighbours found, by kind of query.
        speed: latency of the index.
        exact: latency of exact search over the same vectors, on the same machine, at the same time.
        queries: number of queries of each kind.
    """

    recall: dict[str, float]
    speed: SearchLatency
    exact: SearchLatency
    queries: int

    @property
    def min_recall(self) -> float:
        """Recall of the kind of queries for which it is lowest."""
        return min(self.recall.values(), default=1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as a JSON-compatible dict."""
        return asdict(self)

    @staticmethod
    def from_dict(facts: dict[str, Any]) -> IndexMetrics:
        """Rebuild metrics from the dict of `facts`."""
        speed, exact = SearchLatency(**facts["speed"]), SearchLatency(**facts["exact"])
        recall = {str(name): float(value) for name, value in facts["recall"].items()}
        return IndexMetrics(recall, speed, exact, int(facts["queries"]))


@dataclass(frozen=True)
class RecallBenchmark:
    """Sampled queries with the scores of their true neighbours.

    Attributes:
        queries: (q, d) by kind: "products", and "between products", the midpoints of two. Texts, images and
            mixed queries lie near the products, not on them, and their neighbours are harder to find.
        true_scores: (q, K) true scores by kind, descending; -inf where there are fewer products.
        exact: latency of the exact search that found them.
    """

    queries: dict[str, FloatArray] = field(repr=False)
    true_scores: dict[str, FloatArray] = field(repr=False)
    exact: SearchLatency

    @staticmethod
    def from_vectors(vectors: FloatArray, *, seed: int) -> RecallBenchmark:
        """Sample up to 256 queries of each kind from vectors (n, d), n > 0, and search them exactly."""
        queries = sample_queries(vectors, seed)
        index = FlatIndex(vectors)
        true_scores, seconds = {}, 0.0
        for name, kind_queries in queries.items():
            started = time.perf_counter()
            true_scores[name] = index.search(kind_queries, K)[0]
            seconds += time.perf_counter() - started
        every_query = np.concatenate(list(queries.values()))
        exact = SearchLatency(
            *_single_latency(index, every_query[:: max(1, len(every_query) // 16)]),
            round(len(every_query) / seconds, 1),
        )
        return RecallBenchmark(queries, true_scores, exact)

    def recall(self, index: SearchProtocol) -> dict[str, float]:
        """Return the share of true neighbours the index finds, by kind of query; ties are not misses."""
        return {
            name: recall_at_k(index.search(kind_queries, K)[0], self.true_scores[name])
            for name, kind_queries in self.queries.items()
        }

    def measure(self, index: SearchProtocol) -> IndexMetrics:
        """Measure recall and latency of an index over the same vectors."""
        all_queries = np.concatenate(list(self.queries.values()))
        per_second, scores = _throughput(index, all_queries)
        recall = {}
        for i, (name, true_scores) in enumerate(self.true_scores.items()):
            recall[name] = recall_at_k(scores[i * len(true_scores) : (i + 1) * len(true_scores)], true_scores)
        interleaved = (
            all_queries.reshape(len(self.queries), -1, all_queries.shape[1]).swapaxes(0, 1).reshape(all_queries.shape)
        )
        speed = SearchLatency(*_single_latency(index, interleaved[:_SINGLE_QUERIES]), per_second)
        return IndexMetrics(recall, speed, self.exact, len(all_queries) // len(self.queries))


def sample_queries(vectors: FloatArray, seed: int) -> dict[str, FloatArray]:
    """Sample queries by kind from vectors (n, d); see `RecallBenchmark`."""
    g = np.random.default_rng(seed)
    first, second = (
        np.sort(g.choice(len(vectors), size=min(_MAX_QUERIES, len(vectors)), replace=False)) for _ in range(2)
    )
    sums = vectors[first] + vectors[g.permutation(second)]
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    midpoints = (sums / np.maximum(norms, 1e-6)).astype(np.float32)
    return {"products": np.ascontiguousarray(vectors[first]), "between products": midpoints}


def recall_at_k(scores: FloatArray, truth: FloatArray) -> float:
    """Return the share of true neighbours found.

    A result counts when its score reaches the lowest true score of its query.

    Args:
        scores: (q, k) of the results.
        truth: (q, k) true scores, descending; -inf where there are fewer rows.
    """
    exists = np.isfinite(truth)
    if not exists.any():
        return 1.0
    kth_score = np.where(exists, truth, np.inf).min(axis=1, keepdims=True)
    return float((scores >= kth_score).sum() / exists.sum())


def _single_latency(index: SearchProtocol, queries: FloatArray) -> tuple[float, float]:
    """Return median and 95th percentile in milliseconds of single queries, after one warm-up query."""
    index.search(queries[:1], K)
    milliseconds: list[float] = []
    deadline = time.perf_counter() + _TIME_LIMIT_S
    for i in range(len(queries)):
        started = time.perf_counter()
        index.search(queries[i : i + 1], K)
        ended = time.perf_counter()
        milliseconds.append(1000 * (ended - started))
        if ended > deadline:
            break
    median, p95 = np.percentile(milliseconds, [50, 95])
    return _round_significant(float(median)), _round_significant(float(p95))


def _throughput(index: SearchProtocol, queries: FloatArray) -> tuple[float, FloatArray]:
    """Return queries a second of batch search, the median of three runs after a warm-up, and the scores.

    Where the first run takes long, warm-up does not matter, and it is the only one.
    """
    seconds: list[float] = []
    for _ in range(4):
        started = time.perf_counter()
        scores, _rows = index.search(queries, K)
        seconds.append(time.perf_counter() - started)
        if seconds[0] > _TIME_LIMIT_S / 4:
            break
    return round(len(queries) / sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2], 1), scores


def _round_significant(value: float) -> float:
    """Round to three significant figures; further digits are noise."""
    return round(value, 2 - math.floor(math.log10(value))) if value > 0 else 0.0
