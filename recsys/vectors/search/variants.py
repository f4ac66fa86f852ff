"""Variants of one product: products of the same group_id count as one among the results.

In: an index, queries, the family of each row. Out: the best k rows, one a family, always k where so many families are.
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

_AHEAD: Final = 3
"""Times k rows that are fetched at first where families may fill several places."""


def variant_groups(catalogue: Catalogue) -> IntArray | None:
    """A number for each product, the same for variants of one: (n,) int64; None where no two products are variants.

    A product without a group is a family of its own.
    """
    if schema.GROUP_ID not in catalogue.frame.columns:
        return None
    groups = catalogue.frame[schema.GROUP_ID].cast(pl.String)
    known = groups.is_not_null()
    if groups.drop_nulls().n_unique() == int(known.sum()):
        return None
    numbers = np.arange(len(catalogue), dtype=np.int64)
    codes = groups.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return np.where(known.to_numpy(), len(catalogue) + codes, numbers)


def search_distinct(
    index: VectorIndex,
    queries: FloatArray,
    k: int,
    *,
    allow: BoolArray | None = None,
    kin: IntArray | None = None,
    barred: Sequence[IntArray] | None = None,
) -> tuple[FloatArray, IntArray]:
    """The k best rows of each query, one a family.

    Args:
        index: over n rows.
        queries: (q, d) float32.
        k: rows wanted.
        allow: (n,) bool, rows that count; all when None.
        kin: (n,) int64, the family of each row; None = each its own.
        barred: for each query the families that are left out.

    Returns:
        Scores (q, k) descending and rows (q, k), ties by lower row; (-inf, -1) only where no family is left.
    """
    n = len(index)
    out = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    left_out = _padded(barred, len(queries))
    fetched = min(n, (k if kin is None else _AHEAD * k) + left_out.shape[1])
    if not n or not len(queries):
        return out
    scores, rows = index.search(queries, fetched, allow=allow)
    of = rows if kin is None else np.where(rows >= 0, kin[rows], -1)
    keep = (rows >= 0) & ~(of[:, :, None] == left_out[:, None, :]).any(axis=2)
    if kin is not None:
        keep &= _first(of)
    place = np.cumsum(keep, axis=1) - 1
    taken = keep & (place < k)
    at = np.nonzero(taken)
    out[0][at[0], place[taken]], out[1][at[0], place[taken]] = scores[taken], rows[taken]
    short = (keep.sum(axis=1) < k) & (rows[:, -1] >= 0) & (fetched < n)
    for one in np.flatnonzero(short).tolist():
        _fill(out[0][one], out[1][one], index, queries[one], allow=allow, kin=kin, barred=left_out[one])
    return out


def _fill(
    scores: FloatArray,
    rows: IntArray,
    index: VectorIndex,
    query: FloatArray,
    *,
    allow: BoolArray | None,
    kin: IntArray | None,
    barred: IntArray,
) -> None:
    """Fill one query's places from the first empty one on, asking again without the families that have been seen."""
    kin = np.arange(len(index), dtype=np.int64) if kin is None else kin
    left = np.ones(len(index), np.bool_) if allow is None else allow.copy()
    filled = int((rows >= 0).sum())
    left &= ~np.isin(kin, np.concatenate([barred, kin[rows[:filled]]]))
    while filled < len(rows):
        more_scores, more = (part[0] for part in index.search(query[None, :], _AHEAD * len(rows), allow=left))
        real = more >= 0
        if not real.any():
            return
        more_scores, more = more_scores[real], more[real]
        left &= ~np.isin(kin, kin[more])
        new = _first(kin[more][None, :])[0]
        count = min(int(new.sum()), len(rows) - filled)
        scores[filled : filled + count], rows[filled : filled + count] = more_scores[new][:count], more[new][:count]
        filled += count


def first_of_group(rows: IntArray, kin: IntArray | None) -> IntArray:
    """Of rows in some order (m,), the first of each family, in that order."""
    return rows if kin is None or not len(rows) else rows[_first(kin[rows][None, :])[0]]


def _first(families: IntArray) -> BoolArray:
    """Where a family stands for the first time in its row: (q, f) bool."""
    order = np.argsort(families, axis=1, kind="stable")
    ordered = np.take_along_axis(families, order, 1)
    new = np.ones(ordered.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.empty_like(new)
    np.put_along_axis(out, order, new, 1)
    return out


def _padded(barred: Sequence[IntArray] | None, queries: int) -> IntArray:
    """The barred families of each query in one array (q, b); -2, which no family is, fills it up."""
    width = max((len(some) for some in barred), default=0) if barred is not None else 0
    out = np.full((queries, width), -2, np.int64)
    for at, some in enumerate(barred if width and barred is not None else ()):
        out[at, : len(some)] = some
    return out
