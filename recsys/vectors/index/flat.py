"""Exact search by inner product: the reference for other indexes and their fallback.

In: vectors (n, d), queries (q, d), a mask of allowed rows. Out: the k best rows of each query, ties by lower row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.errors import UsageError
from recsys.types import BoolArray, Device, FloatArray, IntArray

EXTRA_ROWS = 16
"""Rows fetched beyond k and scored again: FAISS breaks ties, and rounds, in its own way."""

_EPSILON = 1e-5
"""Exceeds the float32 rounding error of inner products of unit vectors, in any summation order."""

_BLOCK = 1 << 18
"""Numbers gathered at a time for rescoring: they fit into a core's cache."""

BRUTE_FORCE_QUERIES: Final = 8
"""Up to this number of queries each is scanned without an index; `similar` then never loads FAISS."""


@dataclass(frozen=True)
class FlatIndex:
    """Exact search: a scan for few queries, FAISS for many; both give the same result to the last bit.

    Attributes:
        vectors: (n, d) float32.
        device: where FAISS searches, "auto", "cpu" or "cuda".
    """

    vectors: FloatArray = field(repr=False)
    device: Device = "cpu"
    kind: str = field(default="flat", init=False)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """Return the k best rows of each query; see `recsys.vectors.index.build.VectorIndex.search`."""
        queries = validate_queries(queries, self.vectors, k, allow)
        allowed_rows = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        pool = (
            self.vectors if allowed_rows is None or len(queries) <= BRUTE_FORCE_QUERIES else self.vectors[allowed_rows]
        )
        if len(queries) <= BRUTE_FORCE_QUERIES or not len(pool):
            return brute_force_search(self.vectors, queries, k, rows=allowed_rows)
        from recsys.vectors.index.faiss_gpu import gpu_knn

        n_fetched = min(len(pool), k + EXTRA_ROWS)
        approximate_scores, positions = gpu_knn(queries, np.ascontiguousarray(pool), n_fetched, device=self.device)
        # Where the last fetched row scores like the k-th, rows not fetched may tie with it: scan those queries.
        tolerance = _EPSILON * np.maximum(1.0, np.abs(approximate_scores).max(axis=1))
        may_tie = (approximate_scores[:, min(k, n_fetched) - 1] - approximate_scores[:, -1] <= tolerance) & (
            n_fetched < len(pool)
        )
        return rescore(
            self.vectors,
            queries,
            k,
            positions if allowed_rows is None else allowed_rows[positions],
            incomplete=may_tie,
            allow=allow,
        )


def validate_queries(queries: FloatArray, vectors: FloatArray, k: int, allow: BoolArray | None) -> FloatArray:
    """Return the queries as contiguous float32, as FAISS expects.

    Raises:
        UsageError: a shape does not fit, k is below 1, or a query is not finite.
    """
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise UsageError(f"queries of shape {queries.shape} do not fit vectors of length {vectors.shape[1]}")
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    if allow is not None and (allow.shape != (len(vectors),) or allow.dtype != np.bool_):
        raise UsageError(f"allow must be ({len(vectors)},) bool, not {allow.shape} {allow.dtype}")
    if not np.isfinite(queries).all():
        raise UsageError("a query vector is not a number")
    return np.ascontiguousarray(queries, np.float32)


def rescore(
    vectors: FloatArray, queries: FloatArray, k: int, rows: IntArray, *, incomplete: BoolArray, allow: BoolArray | None
) -> tuple[FloatArray, IntArray]:
    """Score retrieved rows exactly, sort and cut at k; scan all allowed rows for `incomplete` queries.

    Args:
        vectors: (n, d).
        queries: (q, d).
        k: results per query.
        rows: (q, f) rows in any order, -1 = none.
        incomplete: (q,) bool, queries whose retrieved rows may be incomplete.
        allow: (n,) bool, the allowed rows; all of them when None.
    """
    if len(rows) == 1 and rows.shape[1] >= k and not incomplete[0]:
        return _rescore_single(vectors, queries[0], k, rows[0])
    scores, best_rows = _empty_results(len(queries), k)
    n_results = min(k, rows.shape[1])
    step = max(1, _BLOCK // max(1, rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), step):
        chunk = slice(start, start + step)
        candidates = rows[chunk]
        exact_scores = _score(vectors, candidates, queries[chunk][:, None, :])
        exact_scores[candidates < 0] = -np.inf
        query_index, order = (
            np.arange(len(candidates))[:, None],
            np.lexsort((candidates, -exact_scores), axis=1)[:, :n_results],
        )
        scores[chunk, :n_results], best_rows[chunk, :n_results] = (
            exact_scores[query_index, order],
            candidates[query_index, order],
        )
    if incomplete.any():
        rescan = np.flatnonzero(incomplete)
        allowed_rows = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        scores[rescan], best_rows[rescan] = brute_force_search(vectors, queries[rescan], k, rows=allowed_rows)
    return scores, best_rows


def _rescore_single(
    vectors: FloatArray, query: FloatArray, k: int, candidates: IntArray
) -> tuple[FloatArray, IntArray]:
    """Rescore a single query.

    With so few rows, each step of the batch version costs more than the arithmetic.
    """
    exact_scores = _score(vectors, candidates, query)
    if candidates.min() < 0:
        exact_scores[candidates < 0] = -np.inf
    order = np.lexsort((candidates, -exact_scores))[None, :k]
    return exact_scores[order], candidates[order]


def brute_force_search(
    vectors: FloatArray, queries: FloatArray, k: int, *, rows: IntArray | None = None
) -> tuple[FloatArray, IntArray]:
    """Score every row, or every row of `rows`, query by query: scores (q, k), rows (q, k)."""
    scores, best_rows = _empty_results(len(queries), k)
    pool = vectors if rows is None else vectors[rows]
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for i, query in enumerate(queries):
        positions = _candidate_positions(pool @ query, k)
        candidates = positions if rows is None else rows[positions]
        exact_scores = np.empty(len(candidates), np.float32)
        for start in range(0, len(candidates), step):
            exact_scores[start : start + step] = _score(vectors, candidates[start : start + step], query)
        order = np.lexsort((candidates, -exact_scores))[:k]
        scores[i, : len(order)], best_rows[i, : len(order)] = exact_scores[order], candidates[order]
    return scores, best_rows


def _candidate_positions(approximate_scores: FloatArray, k: int) -> IntArray:
    """Return positions that may be among the k best once they are scored exactly."""
    if len(approximate_scores) <= k:
        return np.arange(len(approximate_scores), dtype=np.int64)
    kth_score = np.partition(approximate_scores, len(approximate_scores) - k)[len(approximate_scores) - k]
    tolerance = _EPSILON * max(1.0, float(np.abs(approximate_scores).max()))
    return np.flatnonzero(approximate_scores >= kth_score - tolerance).astype(np.int64)


def _score(vectors: FloatArray, rows: IntArray, queries: FloatArray) -> FloatArray:
    """Return inner products of rows (..., m) with their query (..., 1, d): (..., m) float32.

    A matrix product may round the same two vectors differently at another position of the matrix, and then equal
    products would not tie. Here each pair is summed separately, in float64.
    """
    double = vectors[rows].astype(np.float64)
    out: FloatArray = np.vecdot(double, queries.astype(np.float64)).astype(np.float32)
    return out


def _empty_results(queries: int, k: int) -> tuple[FloatArray, IntArray]:
    """Return scores of -inf and rows of -1: (queries, k) each."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
