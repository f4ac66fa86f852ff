"""What lists are like apart from being right: how novel, diverse, calibrated, and how evenly spread over the products.

In: (b, k) product rows, -1 = none, and what is known of products and users. Out: (b,) values, NaN where undefined;
one number for what only all lists together have.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import BoolArray, DoubleArray, IntArray

Lists = npt.NDArray[np.integer]
Sparse = sparse.csr_matrix
_BLOCK = 4096
_PRICE_BINS = 10
UNKNOWN = -1


def novelty(lists: Lists, counts: npt.NDArray[np.integer]) -> DoubleArray:
    """Mean surprise of the products listed, -log2 of their share of the purchases (Zhou et al. 2010): (b,) bits.

    The share is (purchases + 1) / (all purchases + n), so that what nobody bought yet has a finite surprise too.
    """
    surprise = -np.log2((counts + 1.0) / (counts.sum() + len(counts)))
    real = lists >= 0
    return _share((surprise[np.maximum(lists, 0)] * real).sum(axis=1), real.sum(axis=1))


def diversity(lists: Lists, content: npt.NDArray[np.floating] | Sparse) -> DoubleArray:
    """1 - mean cosine of the pairs in a list (Ziegler et al. 2005): (b,); NaN for fewer than two products.

    Args:
        lists: (b, k).
        content: (n, d) rows of unit length; a product without content has a zero row and is unlike all others.
    """
    length = _squares(content)
    out = np.full(len(lists), np.nan)
    for start in range(0, len(lists), _BLOCK):
        some = lists[start : start + _BLOCK]
        row, at = np.nonzero(some >= 0)
        picked = sparse.csr_matrix((np.ones(len(row)), (row, some[row, at])), shape=(len(some), len(length)))
        whole = cast(npt.NDArray[np.floating] | Sparse, picked @ content)
        size = (some >= 0).sum(axis=1)
        # |sum of v|^2 = sum of |v|^2 + twice the sum over pairs
        cosines = _squares(whole) - picked @ length
        out[start : start + len(some)] = 1.0 - _share(cosines, size * (size - 1))
    return out


def calibration(lists: Lists, history: Lists, groups: IntArray, *, alpha: float = 0.01) -> DoubleArray:
    """How far a list's mix of groups is from that of the user's history, 0 = the same (Steck 2018): (b,) nats.

    KL(p | (1 - alpha) q + alpha p), p the shares of the groups in the history, q those in the list.

    Args:
        lists: (b, k).
        history: (b, t) products of the user's events, -1 = none.
        groups: (n,) group of each product, -1 = unknown, which does not count.
        alpha: keeps the divergence finite where the list lacks a group.

    Returns:
        NaN for users whose history has no product of a known group.
    """
    wide = int(groups.max(initial=UNKNOWN)) + 1
    out = np.full(len(lists), np.nan)
    if not wide:
        return out
    for start in range(0, len(lists), _BLOCK):
        p = _mix(history[start : start + _BLOCK], groups, wide)
        q = _mix(lists[start : start + _BLOCK], groups, wide)
        ratio = np.divide(p, (1 - alpha) * q + alpha * p, out=np.ones_like(p), where=p > 0)
        divergence = (p * np.log(ratio)).sum(axis=1)
        out[start : start + len(p)] = np.where(p.sum(axis=1) > 0, np.maximum(divergence, 0.0), np.nan)
    return out


def categories(catalogue: Catalogue) -> IntArray:
    """Number of each product's category, -1 = none: (n,)."""
    if schema.CATEGORY not in catalogue.frame.columns:
        return np.full(len(catalogue), UNKNOWN, np.int64)
    held = catalogue.frame[schema.CATEGORY].to_list()
    names = {name: place for place, name in enumerate(sorted({name for name in held if name}))}
    return np.array([names.get(name, UNKNOWN) for name in held], np.int64)


def prices(catalogue: Catalogue) -> IntArray:
    """Tenth of the catalogue each product's price lies in, within its currency, -1 = no price: (n,)."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns:
        return np.full(len(frame), UNKNOWN, np.int64)
    currency = pl.col(schema.CURRENCY).fill_null("") if schema.CURRENCY in frame.columns else pl.lit("")
    held = frame.select(pl.col(schema.PRICE).cast(pl.Float64).fill_nan(None).alias("price"), currency.alias("currency"))
    # equal prices share the lowest rank, and with it the tenth
    place = (pl.col("price").rank("min").cast(pl.Float64) - 1) / pl.col("price").count()
    tenth = (place.over("currency") * _PRICE_BINS).floor().cast(pl.Int64).fill_null(UNKNOWN)
    return held.select(tenth.alias("tenth"))["tenth"].to_numpy().astype(np.int64)


def coverage(lists: Lists, sellable: BoolArray) -> float:
    """Share of the products that may be sold that stand in any list."""
    listed = np.unique(lists)
    return float((listed >= 0).sum() / max(1, int(sellable.sum())))


def gini(lists: Lists, sellable: BoolArray) -> float:
    """Gini index of how often the products that may be sold are listed: 0 = all as often, 1 = one alone.

    NaN when no list names any.
    """
    counts = np.bincount(lists[lists >= 0], minlength=len(sellable))
    shown = np.sort(counts[sellable | (counts > 0)]).astype(np.float64)
    n, whole = len(shown), shown.sum()
    if not whole:
        return float("nan")
    return float(2 * (np.arange(1, n + 1) * shown).sum() / (n * whole) - (n + 1) / n)


def _mix(items: Lists, groups: IntArray, wide: int) -> DoubleArray:
    """Shares of the groups among some products: (b, wide), zeros where no group is known."""
    row, at = np.nonzero(items >= 0)
    group = groups[items[row, at]]
    known = group != UNKNOWN
    counts = np.bincount(row[known] * wide + group[known], minlength=len(items) * wide).reshape(len(items), wide)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _squares(rows: npt.NDArray[np.floating] | Sparse) -> DoubleArray:
    """Squared length of each row: (n,)."""
    if isinstance(rows, np.ndarray):
        return np.asarray((rows.astype(np.float64) ** 2).sum(axis=1))
    return np.asarray(rows.multiply(rows).sum(axis=1), np.float64).ravel()


def _share(sums: DoubleArray, sizes: npt.NDArray[np.integer]) -> DoubleArray:
    out = np.full(len(sums), np.nan)
    np.divide(sums, sizes, out=out, where=sizes > 0)
    return out
