"""Exact search by inner product: the answer the other indexes are measured against, and their help in corner cases.

In: vectors (n, d), queries (q, d), which rows count. Out: the k best rows of each query, ties by lower row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.errors import UsageError
from recsys.types import BoolArray, Device, FloatArray, IntArray

SLACK = 16
"""Rows fetched beyond k, to be scored again: FAISS breaks ties, and rounds, in its own way."""

_EPSILON = 1e-5
"""More than the rounding error of float32 inner products of unit vectors, in whatever order they are summed."""

_BLOCK = 1 << 18
"""Numbers gathered at a time when rows are scored again: what stays in a core's cache."""

BRUTE_FORCE_QUERIES: Final = 8
"""Up to here a scan per query is done before an index is filled or read from disk; `similar` then never loads FAISS."""


@dataclass(frozen=True)
class FlatIndex:
    """Exact search: a scan for few queries, FAISS for many; both give the same answer to the last bit.

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
        queries = validate_queries(queries, self.vectors, k, allow)
        among = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        pool = self.vectors if among is None or len(queries) <= BRUTE_FORCE_QUERIES else self.vectors[among]
        if len(queries) <= BRUTE_FORCE_QUERIES or not len(pool):
            return brute_force_search(self.vectors, queries, k, among=among)
        from recsys.vectors.index import faiss_gpu as gpu

        fetched = min(len(pool), k + SLACK)
        rough, found = gpu.gpu_knn(queries, np.ascontiguousarray(pool), fetched, device=self.device)
        # Where the last row fetched is as good as the k-th, rows left behind may tie with it: scan those queries.
        slack = _EPSILON * np.maximum(1.0, np.abs(rough).max(axis=1))
        unsure = (rough[:, min(k, fetched) - 1] - rough[:, -1] <= slack) & (fetched < len(pool))
        return rescore(self.vectors, queries, k, found if among is None else among[found], unsure=unsure, allow=allow)


def validate_queries(queries: FloatArray, vectors: FloatArray, k: int, allow: BoolArray | None) -> FloatArray:
    """The queries as FAISS wants them.

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
    vectors: FloatArray, queries: FloatArray, k: int, found: IntArray, *, unsure: BoolArray, allow: BoolArray | None
) -> tuple[FloatArray, IntArray]:
    """Score found rows again, order them, cut at k; scan all that count for the queries marked `unsure`.

    Args:
        vectors: (n, d).
        queries: (q, d).
        k: rows wanted.
        found: (q, f) rows in any order, -1 = none.
        unsure: (q,) bool, is what was found not enough.
        allow: (n,) bool, the rows that count; all of them when None.
    """
    if len(found) == 1 and found.shape[1] >= k and not unsure[0]:
        return _settled_one(vectors, queries[0], k, found[0])
    scores, rows = _blank(len(queries), k)
    kept = min(k, found.shape[1])
    step = max(1, _BLOCK // max(1, found.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        hits = found[some]
        again = _score(vectors, hits, queries[some][:, None, :])
        again[hits < 0] = -np.inf
        line, order = np.arange(len(hits))[:, None], np.lexsort((hits, -again), axis=1)[:, :kept]
        scores[some, :kept], rows[some, :kept] = again[line, order], hits[line, order]
    if unsure.any():
        doubtful = np.flatnonzero(unsure)
        among = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        scores[doubtful], rows[doubtful] = brute_force_search(vectors, queries[doubtful], k, among=among)
    return scores, rows


def _settled_one(vectors: FloatArray, query: FloatArray, k: int, hits: IntArray) -> tuple[FloatArray, IntArray]:
    """The same for one query: with so little to count, every step between costs more than the counting."""
    again = _score(vectors, hits, query)
    if hits.min() < 0:
        again[hits < 0] = -np.inf
    order = np.lexsort((hits, -again))[None, :k]
    return again[order], hits[order]


def brute_force_search(
    vectors: FloatArray, queries: FloatArray, k: int, *, among: IntArray | None = None
) -> tuple[FloatArray, IntArray]:
    """Look at every row, or at every row of `among`, query by query: scores (q, k), rows (q, k)."""
    scores, rows = _blank(len(queries), k)
    pool = vectors if among is None else vectors[among]
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for at, query in enumerate(queries):
        near = _contenders(pool @ query, k)
        own = near if among is None else among[near]
        again = np.empty(len(own), np.float32)
        for start in range(0, len(own), step):
            again[start : start + step] = _score(vectors, own[start : start + step], query)
        order = np.lexsort((own, -again))[:k]
        scores[at, : len(order)], rows[at, : len(order)] = again[order], own[order]
    return scores, rows


def _contenders(rough: FloatArray, k: int) -> IntArray:
    """Positions that may be among the k best once they are scored exactly."""
    if len(rough) <= k:
        return np.arange(len(rough), dtype=np.int64)
    bar = np.partition(rough, len(rough) - k)[len(rough) - k]
    slack = _EPSILON * max(1.0, float(np.abs(rough).max()))
    return np.flatnonzero(rough >= bar - slack).astype(np.int64)


def _score(vectors: FloatArray, rows: IntArray, queries: FloatArray) -> FloatArray:
    """Inner products of rows (..., m) with their query (..., 1, d): (..., m) float32.

    A matrix product may round the same two vectors differently in another place of the matrix, and then equal products
    would not tie. Here each pair is summed by itself, in float64.
    """
    wide = vectors[rows].astype(np.float64)
    out: FloatArray = np.vecdot(wide, queries.astype(np.float64)).astype(np.float32)
    return out


def _blank(queries: int, k: int) -> tuple[FloatArray, IntArray]:
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
