"""True scores: each pair of vectors summed by itself in float64, and the k best by score, then by row.

In: pairs (query, row). Out: scores (b, k) and rows (b, k); none = (-inf, -1).

A matrix product may round the same two vectors differently in another place of the matrix. Here a score depends on its
two vectors alone, so it is the same in any blocks, on any number of threads, and equal products tie.
"""

from __future__ import annotations

import numpy as np

from recsys.errors import UsageError
from recsys.types import FloatArray, IntArray

_PAIRS = 1 << 14
"""Numbers gathered at a time: they stay in the cache next to the core."""

_ROWS = 1 << 32
"""Rows a place in the sorted keys has room for."""


def exact_scores(queries: FloatArray, items: FloatArray, user: IntArray, row: IntArray) -> FloatArray:
    """Inner products of m pairs: (m,) float32.

    Raises:
        UsageError: one is beyond what float32 holds.
    """
    out = np.empty(len(user), np.float64)
    step = max(1, _PAIRS // max(1, items.shape[1]))
    # Written into the same memory again and again: fetching new pages costs more than the arithmetic.
    wide = np.empty((min(step, len(user)), items.shape[1]), np.float64)
    one, other = (np.empty(wide.shape, np.float32) for _ in range(2))
    for start in range(0, len(user), step):
        some = slice(start, start + step)
        m = len(user[some])
        np.take(queries, user[some], axis=0, out=one[:m], mode="clip")
        np.take(items, row[some], axis=0, out=other[:m], mode="clip")
        np.multiply(one[:m], other[:m], out=wide[:m], dtype=np.float64)
        np.add.reduce(wide[:m], axis=1, out=out[some])
    with np.errstate(over="ignore"):
        rounded = out.astype(np.float32) + np.float32(0)  # minus zero is zero
    if not np.isfinite(rounded).all():
        raise UsageError("an inner product is larger than float32 holds; scale the vectors down")
    return rounded


def rank_per_query(scores: FloatArray, user: IntArray, row: IntArray, *, b: int, k: int) -> tuple[FloatArray, IntArray]:
    """The k best of each query by descending score, then by row.

    Args:
        scores: (m,) of the pairs.
        user: (m,) ascending, query of each pair.
        row: (m,) item of each pair, once a query.
        b: queries.
        k: places.
    """
    count = np.bincount(user, minlength=b)
    rank = np.arange(len(user)) - (np.cumsum(count) - count)[user]
    # Sorting one unsigned number that holds both is much faster than sorting by two.
    bits = scores.view(np.uint32).astype(np.uint64)
    falling = np.where(bits >> 31 == 1, bits, np.uint64(0x7FFFFFFF) - bits)
    table = np.full((b, max(k, int(count.max(initial=0)))), np.iinfo(np.uint64).max)
    table[user, rank] = falling * np.uint64(_ROWS) + row.astype(np.uint64)
    table.sort(axis=1)
    best = table[:, :k]
    falling = best >> np.uint64(32)
    there = best != np.iinfo(np.uint64).max
    bits = np.where(falling >> 31 == 1, falling, np.uint64(0x7FFFFFFF) - falling)
    value = np.where(there, bits.astype(np.uint32).view(np.float32), np.float32(-np.inf))
    return value, np.where(there, (best & np.uint64(_ROWS - 1)).astype(np.int64), -1)


def brute_force(query: FloatArray, items: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """Look at each of `rows`, ascending: scores (k,) and rows (k,) of one query (d,)."""
    best, found = np.empty(0, np.float32), np.empty(0, np.int64)
    step = max(1, 256 * _PAIRS // max(1, items.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        value = exact_scores(query[None], items, np.zeros(len(some), np.int64), some)
        if len(best) == k:  # a later row needs more than the last place has
            some, value = some[value > best[-1]], value[value > best[-1]]
        best, found = np.concatenate([best, value]), np.concatenate([found, some])
        order = np.lexsort((found, -best))[:k]
        best, found = best[order], found[order]
    missing = k - len(best)
    return np.pad(best, (0, missing), constant_values=-np.inf), np.pad(found, (0, missing), constant_values=-1)
