"""Exact scores of (query, item) pairs, each summed in float64, and the k best by score, then by row.

In: pairs (query, row). Out: scores (b, k) and rows (b, k); none = (-inf, -1).

A matrix product may round the same two vectors differently at another position of the matrix. Here a score depends on
its two vectors alone, so it is the same in any blocks, on any number of threads, and equal products tie.
"""

from __future__ import annotations

import numpy as np

from recsys.errors import UsageError
from recsys.types import FloatArray, IntArray

_CHUNK_NUMBERS = 1 << 14
"""Numbers gathered at a time, so that they stay in the core's cache."""

_MAX_ROWS = 1 << 32
"""Number of item rows that fit into the lower half of a sort key."""


def exact_scores(queries: FloatArray, items: FloatArray, user: IntArray, row: IntArray) -> FloatArray:
    """Return the inner products of m pairs: (m,) float32.

    Raises:
        UsageError: a product is beyond the range of float32.
    """
    out = np.empty(len(user), np.float64)
    step = max(1, _CHUNK_NUMBERS // max(1, items.shape[1]))
    # The buffers are reused: fetching new memory pages costs more than the arithmetic.
    products = np.empty((min(step, len(user)), items.shape[1]), np.float64)
    query_buffer, item_buffer = (np.empty(products.shape, np.float32) for _ in range(2))
    for start in range(0, len(user), step):
        chunk = slice(start, start + step)
        m = len(user[chunk])
        np.take(queries, user[chunk], axis=0, out=query_buffer[:m], mode="clip")
        np.take(items, row[chunk], axis=0, out=item_buffer[:m], mode="clip")
        np.multiply(query_buffer[:m], item_buffer[:m], out=products[:m], dtype=np.float64)
        np.add.reduce(products[:m], axis=1, out=out[chunk])
    with np.errstate(over="ignore"):
        rounded = out.astype(np.float32) + np.float32(0)  # minus zero is zero
    if not np.isfinite(rounded).all():
        raise UsageError("an inner product is larger than float32 holds; scale the vectors down")
    return rounded


def rank_per_query(scores: FloatArray, user: IntArray, row: IntArray, *, b: int, k: int) -> tuple[FloatArray, IntArray]:
    """Return the k best items of each query by descending score, then by row.

    Args:
        scores: (m,) of the pairs.
        user: (m,) ascending, query of each pair.
        row: (m,) item of each pair, at most once per query.
        b: number of queries.
        k: results per query.
    """
    count = np.bincount(user, minlength=b)
    rank = np.arange(len(user)) - (np.cumsum(count) - count)[user]
    # Sorting one unsigned number that packs score and row is much faster than sorting by two keys.
    bits = scores.view(np.uint32).astype(np.uint64)
    descending = np.where(bits >> 31 == 1, bits, np.uint64(0x7FFFFFFF) - bits)
    keys = np.full((b, max(k, int(count.max(initial=0)))), np.iinfo(np.uint64).max)
    keys[user, rank] = descending * np.uint64(_MAX_ROWS) + row.astype(np.uint64)
    keys.sort(axis=1)
    best = keys[:, :k]
    descending = best >> np.uint64(32)
    exists = best != np.iinfo(np.uint64).max
    bits = np.where(descending >> 31 == 1, descending, np.uint64(0x7FFFFFFF) - descending)
    value = np.where(exists, bits.astype(np.uint32).view(np.float32), np.float32(-np.inf))
    return value, np.where(exists, (best & np.uint64(_MAX_ROWS - 1)).astype(np.int64), -1)


def brute_force(query: FloatArray, items: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """Score one query (d,) against each of `rows`, ascending: scores (k,) and rows (k,)."""
    best_scores, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
    step = max(1, 256 * _CHUNK_NUMBERS // max(1, items.shape[1]))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        value = exact_scores(query[None], items, np.zeros(len(chunk), np.int64), chunk)
        if len(best_scores) == k:  # a later row must beat the last of the k best
            chunk, value = chunk[value > best_scores[-1]], value[value > best_scores[-1]]
        best_scores, best_rows = np.concatenate([best_scores, value]), np.concatenate([best_rows, chunk])
        order = np.lexsort((best_rows, -best_scores))[:k]
        best_scores, best_rows = best_scores[order], best_rows[order]
    missing = k - len(best_scores)
    return np.pad(best_scores, (0, missing), constant_values=-np.inf), np.pad(
        best_rows, (0, missing), constant_values=-1
    )
