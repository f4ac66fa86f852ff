"""How much an index finds and how quickly, measured against exact search with queries of the catalogue's own.

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
_SAMPLE: Final = 256
_SINGLES: Final = 128
_PATIENCE_S: Final = 2.0
"""Seconds after which no further single query is timed."""


class SearchProtocol(Protocol):
    """What is asked of an index."""

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """See `recsys.vectors.index.build.VectorIndex`."""
        ...


@dataclass(frozen=True)
class SearchLatency:
    """How quickly an index answers for ten neighbours.

    Attributes:
        median_ms: of single queries.
        p95_ms: of single queries; 19 of 20 are quicker.
        per_second: queries a second, all of the sample in one call.
    """

    median_ms: float
    p95_ms: float
    per_second: float


@dataclass(frozen=True)
class IndexMetrics:
    """What was measured of an index.

    Attributes:
        recall: share of the true ten nearest neighbours found, by kind of query.
        speed: of the index.
        exact: of exact search over the same vectors, on the same machine, at the same time.
        queries: how many were asked of each kind.
    """

    recall: dict[str, float]
    speed: SearchLatency
    exact: SearchLatency
    queries: int

    @property
    def min_recall(self) -> float:
        """Recall of the kind of queries it is less for."""
        return min(self.recall.values(), default=1.0)

    def facts(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return asdict(self)

    @staticmethod
    def of(facts: dict[str, Any]) -> IndexMetrics:
        """Back from `facts`."""
        speed, exact = SearchLatency(**facts["speed"]), SearchLatency(**facts["exact"])
        recall = {str(name): float(value) for name, value in facts["recall"].items()}
        return IndexMetrics(recall, speed, exact, int(facts["queries"]))


@dataclass(frozen=True)
class RecallBenchmark:
    """Queries with the scores that the true neighbours have.

    Attributes:
        queries: (q, d) by kind: "products", and "between products", points halfway between two. Texts, pictures and
            mixes lie beside the products, not on them, and their neighbours are harder to find.
        bars: (q, K) true scores by kind, descending; -inf where there are fewer products.
        exact: how quickly exact search was in finding them.
    """

    queries: dict[str, FloatArray] = field(repr=False)
    bars: dict[str, FloatArray] = field(repr=False)
    exact: SearchLatency

    @staticmethod
    def of(vectors: FloatArray, *, seed: int) -> RecallBenchmark:
        """Draw up to 256 queries of each kind from vectors (n, d), n > 0, and search for them exactly."""
        queries = sample_queries(vectors, seed)
        index = FlatIndex(vectors)
        bars, seconds = {}, 0.0
        for name, asked in queries.items():
            started = time.perf_counter()
            bars[name] = index.search(asked, K)[0]
            seconds += time.perf_counter() - started
        singles = np.concatenate(list(queries.values()))
        exact = SearchLatency(
            *_singles(index, singles[:: max(1, len(singles) // 16)]), round(len(singles) / seconds, 1)
        )
        return RecallBenchmark(queries, bars, exact)

    def recall(self, index: SearchProtocol) -> dict[str, float]:
        """Share of the true neighbours that the index finds, by kind of query; ties are no misses."""
        return {name: recall_at_k(index.search(asked, K)[0], self.bars[name]) for name, asked in self.queries.items()}

    def measured(self, index: SearchProtocol) -> IndexMetrics:
        """Recall and speed of an index over the same vectors."""
        every = np.concatenate(list(self.queries.values()))
        together, scores = _rate(index, every)
        recall = {}
        for number, (name, bars) in enumerate(self.bars.items()):
            recall[name] = recall_at_k(scores[number * len(bars) : (number + 1) * len(bars)], bars)
        mixed = every.reshape(len(self.queries), -1, every.shape[1]).swapaxes(0, 1).reshape(every.shape)
        speed = SearchLatency(*_singles(index, mixed[:_SINGLES]), together)
        return IndexMetrics(recall, speed, self.exact, len(every) // len(self.queries))


def sample_queries(vectors: FloatArray, seed: int) -> dict[str, FloatArray]:
    """Queries by kind, drawn from vectors (n, d); see `RecallBenchmark`."""
    g = np.random.default_rng(seed)
    one, other = (np.sort(g.choice(len(vectors), size=min(_SAMPLE, len(vectors)), replace=False)) for _ in range(2))
    between = vectors[one] + vectors[g.permutation(other)]
    lengths = np.linalg.norm(between, axis=1, keepdims=True)
    halfway = (between / np.maximum(lengths, 1e-6)).astype(np.float32)
    return {"products": np.ascontiguousarray(vectors[one]), "between products": halfway}


def recall_at_k(scores: FloatArray, truth: FloatArray) -> float:
    """Share of true neighbours found: scores (q, k) that reach the last of the true scores (q, k) of their query."""
    real = np.isfinite(truth)
    if not real.any():
        return 1.0
    bar = np.where(real, truth, np.inf).min(axis=1, keepdims=True)
    return float((scores >= bar).sum() / real.sum())


def _singles(index: SearchProtocol, queries: FloatArray) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds of asking one by one; the first is asked once before."""
    index.search(queries[:1], K)
    spent: list[float] = []
    until = time.perf_counter() + _PATIENCE_S
    for at in range(len(queries)):
        started = time.perf_counter()
        index.search(queries[at : at + 1], K)
        ended = time.perf_counter()
        spent.append(1000 * (ended - started))
        if ended > until:
            break
    median, late = np.percentile(spent, [50, 95])
    return _rounded(float(median)), _rounded(float(late))


def _rate(index: SearchProtocol, queries: FloatArray) -> tuple[float, FloatArray]:
    """Queries a second of asking all at once, the median of three times after the first; and the scores found.

    Where the first time takes long, what it warms up does not count, and it is the only one.
    """
    spent: list[float] = []
    for _ in range(4):
        started = time.perf_counter()
        scores, _rows = index.search(queries, K)
        spent.append(time.perf_counter() - started)
        if spent[0] > _PATIENCE_S / 4:
            break
    return round(len(queries) / sorted(spent[1:] or spent)[len(spent[1:]) // 2], 1), scores


def _rounded(value: float) -> float:
    """Three figures: more were noise."""
    return round(value, 2 - math.floor(math.log10(value))) if value > 0 else 0.0
