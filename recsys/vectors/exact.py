"""Exact search by inner product: the answer the other indexes are measured against, and their help in corner cases.

In: vectors (n, d), queries (q, d), which rows count. Out: the k best rows of each query, ties by lower row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Allow = npt.NDArray[np.bool_]

EPSILON = 2e-6
"""More than the rounding error of a float32 inner product of unit vectors, in whatever order it is summed."""

_BLOCK = 1 << 22
"""Numbers gathered at a time when rows are scored again."""


def blank(queries: int, k: int) -> tuple[Vectors, Rows]:
    """Results with nothing in them: scores (q, k) -inf, rows (q, k) -1."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def score(vectors: Vectors, rows: Rows, query: Vectors) -> Vectors:
    """Inner products of some rows with one query (d,), independent of what else is scored: (m,) float32.

    A matrix product may round the same two vectors differently in another place of the matrix, and then equal products
    would not tie. Here each row is summed by itself, in float64.
    """
    out = np.empty(len(rows), np.float32)
    wide = query.astype(np.float64)
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        out[start : start + step] = (vectors[part].astype(np.float64) * wide).sum(axis=1)
    return out


def best(scores: Vectors, rows: Rows, k: int) -> tuple[Vectors, Rows]:
    """The k highest of some scored rows, ties by lower row: (<= k,) each."""
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def scan(vectors: Vectors, query: Vectors, k: int, *, among: Rows | None = None) -> tuple[Vectors, Rows]:
    """Look at every row, or at every row of `among`, for one query (d,): the k best, (<= k,) each."""
    rough = (vectors if among is None else vectors[among]) @ query
    if len(rough) > k:
        bar = np.partition(rough, len(rough) - k)[len(rough) - k]
        slack = EPSILON * max(1.0, float(np.abs(rough).max()))
        near = np.flatnonzero(rough >= bar - slack).astype(np.int64)
    else:
        near = np.arange(len(rough), dtype=np.int64)
    rows = near if among is None else among[near]
    return best(score(vectors, rows, query), rows, k)
