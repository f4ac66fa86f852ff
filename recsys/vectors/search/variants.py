"""Search with one result per variant group: products of the same group_id count as one.

In: an index, queries, the variant group of each row. Out: the best k rows, one per group; always k where enough groups
are allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.index.build import VectorIndex

_OVERFETCH: Final = 3
"""Multiple of k fetched first where variants may fill several positions."""


def variant_groups(catalogue: Catalogue) -> IntArray | None:
    """Return the variant group of each product: (n,) int64; None where no two products are variants.

    A product without a group_id is a group of its own.
    """
    if schema.GROUP_ID not in catalogue.frame.columns:
        return None
    groups = catalogue.frame[schema.GROUP_ID].cast(pl.String)
    has_group = groups.is_not_null()
    if groups.drop_nulls().n_unique() == int(has_group.sum()):
        return None
    numbers = np.arange(len(catalogue), dtype=np.int64)
    codes = groups.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return np.where(has_group.to_numpy(), len(catalogue) + codes, numbers)


def search_distinct(
    index: VectorIndex,
    queries: FloatArray,
    k: int,
    *,
    allow: BoolArray | None = None,
    groups: IntArray | None = None,
    excluded: Sequence[IntArray] | None = None,
) -> tuple[FloatArray, IntArray]:
    """Return the k best rows of each query, one per variant group.

    Args:
        index: over n rows.
        queries: (q, d) float32.
        k: results per query.
        allow: (n,) bool, the allowed rows; all when None.
        groups: (n,) int64, variant group of each row; None = each its own.
        excluded: for each query the excluded groups.

    Returns:
        Scores (q, k) descending and rows (q, k), ties by lower row; (-inf, -1) only where no group is left.
    """
    n = len(index)
    out = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    excluded_groups = _pad_groups(excluded, len(queries))
    n_fetched = min(n, (k if groups is None else _OVERFETCH * k) + excluded_groups.shape[1])
    if not n or not len(queries):
        return out
    scores, rows = index.search(queries, n_fetched, allow=allow)
    row_groups = rows if groups is None else np.where(rows >= 0, groups[rows], -1)
    keep = (rows >= 0) & ~(row_groups[:, :, None] == excluded_groups[:, None, :]).any(axis=2)
    if groups is not None:
        keep &= _first_occurrences(row_groups)
    position = np.cumsum(keep, axis=1) - 1
    selected = keep & (position < k)
    cells = np.nonzero(selected)
    out[0][cells[0], position[selected]], out[1][cells[0], position[selected]] = scores[selected], rows[selected]
    short = (keep.sum(axis=1) < k) & (rows[:, -1] >= 0) & (n_fetched < n)
    for query in np.flatnonzero(short).tolist():
        _fill(
            out[0][query],
            out[1][query],
            index,
            queries[query],
            allow=allow,
            groups=groups,
            excluded=excluded_groups[query],
        )
    return out


def _fill(
    scores: FloatArray,
    rows: IntArray,
    index: VectorIndex,
    query: FloatArray,
    *,
    allow: BoolArray | None,
    groups: IntArray | None,
    excluded: IntArray,
) -> None:
    """Fill one query's empty positions by further searches without the groups found so far."""
    groups = np.arange(len(index), dtype=np.int64) if groups is None else groups
    remaining = np.ones(len(index), np.bool_) if allow is None else allow.copy()
    filled = int((rows >= 0).sum())
    remaining &= ~np.isin(groups, np.concatenate([excluded, groups[rows[:filled]]]))
    while filled < len(rows):
        new_scores, new_rows = (
            part[0] for part in index.search(query[None, :], _OVERFETCH * len(rows), allow=remaining)
        )
        exists = new_rows >= 0
        if not exists.any():
            return
        new_scores, new_rows = new_scores[exists], new_rows[exists]
        remaining &= ~np.isin(groups, groups[new_rows])
        is_first = _first_occurrences(groups[new_rows][None, :])[0]
        count = min(int(is_first.sum()), len(rows) - filled)
        scores[filled : filled + count], rows[filled : filled + count] = (
            new_scores[is_first][:count],
            new_rows[is_first][:count],
        )
        filled += count


def first_of_group(rows: IntArray, groups: IntArray | None) -> IntArray:
    """Return the first row of each variant group, in the order of `rows` (m,)."""
    return rows if groups is None or not len(rows) else rows[_first_occurrences(groups[rows][None, :])[0]]


def _first_occurrences(groups: IntArray) -> BoolArray:
    """Mark the first occurrence of a group in its row: (q, f) bool."""
    order = np.argsort(groups, axis=1, kind="stable")
    ordered = np.take_along_axis(groups, order, 1)
    is_first = np.ones(ordered.shape, np.bool_)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.empty_like(is_first)
    np.put_along_axis(out, order, is_first, 1)
    return out


def _pad_groups(excluded: Sequence[IntArray] | None, n_queries: int) -> IntArray:
    """Return the excluded groups of each query as one array (q, b), padded with -2, which is no group."""
    width = max((len(groups) for groups in excluded), default=0) if excluded is not None else 0
    out = np.full((n_queries, width), -2, np.int64)
    for i, groups in enumerate(excluded if width and excluded is not None else ()):
        out[i, : len(groups)] = groups
    return out
