"""Metrics beyond accuracy: novelty, diversity, calibration, catalogue coverage and Gini index.

In: (b, k) product rows, -1 = empty, and data about products and users. Out: (b,) values, NaN where undefined; a single
number for metrics of all lists together.
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
_BATCH_SIZE = 4096
_PRICE_BINS = 10
UNKNOWN = -1


def novelty(lists: Lists, counts: npt.NDArray[np.integer]) -> DoubleArray:
    """Mean self-information of the listed products (Zhou et al. 2010): (b,) bits.

    It is -log2 of the share of purchases, (purchases + 1) / (all purchases + n), which keeps it finite for products
    without a purchase.
    """
    information = -np.log2((counts + 1.0) / (counts.sum() + len(counts)))
    is_product = lists >= 0
    return _divide((information[np.maximum(lists, 0)] * is_product).sum(axis=1), is_product.sum(axis=1))


def diversity(lists: Lists, content: npt.NDArray[np.floating] | Sparse) -> DoubleArray:
    """1 - mean pairwise cosine within a list (Ziegler et al. 2005): (b,); NaN for fewer than two products.

    Args:
        lists: (b, k).
        content: (n, d) rows of unit length; a product without content has a zero row, similarity 0 to all others.
    """
    squared_length = _squared_lengths(content)
    out = np.full(len(lists), np.nan)
    for start in range(0, len(lists), _BATCH_SIZE):
        batch = lists[start : start + _BATCH_SIZE]
        row, column = np.nonzero(batch >= 0)
        membership = sparse.csr_matrix(
            (np.ones(len(row)), (row, batch[row, column])), shape=(len(batch), len(squared_length))
        )
        sums = cast(npt.NDArray[np.floating] | Sparse, membership @ content)
        size = (batch >= 0).sum(axis=1)
        # |sum of v|^2 = sum of |v|^2 + twice the sum over pairs
        cosines = _squared_lengths(sums) - membership @ squared_length
        out[start : start + len(batch)] = 1.0 - _divide(cosines, size * (size - 1))
    return out


def calibration(lists: Lists, history: Lists, categories: IntArray, *, alpha: float = 0.01) -> DoubleArray:
    """KL divergence of a list's category mix from that of the history (Steck 2018): (b,) nats, 0 = equal.

    KL(p | (1 - alpha) q + alpha p), where p are the category shares in the history and q those in the list.

    Args:
        lists: (b, k).
        history: (b, t) products of the user's events, -1 = empty.
        categories: (n,) category of each product, -1 = unknown, which does not count.
        alpha: keeps the divergence finite where the list lacks a category.

    Returns:
        NaN for users whose history has no product of a known category.
    """
    n_categories = int(categories.max(initial=UNKNOWN)) + 1
    out = np.full(len(lists), np.nan)
    if not n_categories:
        return out
    for start in range(0, len(lists), _BATCH_SIZE):
        p = _compute_shares(history[start : start + _BATCH_SIZE], categories, n_categories)
        q = _compute_shares(lists[start : start + _BATCH_SIZE], categories, n_categories)
        ratio = np.divide(p, (1 - alpha) * q + alpha * p, out=np.ones_like(p), where=p > 0)
        divergence = (p * np.log(ratio)).sum(axis=1)
        out[start : start + len(p)] = np.where(p.sum(axis=1) > 0, np.maximum(divergence, 0.0), np.nan)
    return out


def category_codes(catalogue: Catalogue) -> IntArray:
    """Return the category code of each product, -1 = none: (n,)."""
    if schema.CATEGORY not in catalogue.frame.columns:
        return np.full(len(catalogue), UNKNOWN, np.int64)
    values = catalogue.frame[schema.CATEGORY].to_list()
    codes = {name: code for code, name in enumerate(sorted({name for name in values if name}))}
    return np.array([codes.get(name, UNKNOWN) for name in values], np.int64)


def price_deciles(catalogue: Catalogue) -> IntArray:
    """Return the price decile of each product within its currency, -1 = no price: (n,)."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns:
        return np.full(len(frame), UNKNOWN, np.int64)
    currency = pl.col(schema.CURRENCY).fill_null("") if schema.CURRENCY in frame.columns else pl.lit("")
    priced = frame.select(
        pl.col(schema.PRICE).cast(pl.Float64).fill_nan(None).alias("price"), currency.alias("currency")
    )
    # equal prices share the lowest rank, and with it the decile
    rank = (pl.col("price").rank("min").cast(pl.Float64) - 1) / pl.col("price").count()
    decile = (rank.over("currency") * _PRICE_BINS).floor().cast(pl.Int64).fill_null(UNKNOWN)
    return priced.select(decile.alias("decile"))["decile"].to_numpy().astype(np.int64)


def coverage(lists: Lists, sellable: BoolArray) -> float:
    """Share of the sellable products that appear in at least one list."""
    listed = np.unique(lists)
    return float((listed >= 0).sum() / max(1, int(sellable.sum())))


def gini(lists: Lists, sellable: BoolArray) -> float:
    """Gini index of how often sellable products are listed: 0 = all equally often, 1 = a single one.

    NaN if no list contains a product.
    """
    counts = np.bincount(lists[lists >= 0], minlength=len(sellable))
    return gini_index(counts[sellable | (counts > 0)])


def gini_index(counts: npt.NDArray[np.integer]) -> float:
    """Gini index of counts: 0 = all equal, towards 1 = concentrated on one; NaN if all are 0."""
    ascending = np.sort(counts).astype(np.float64)
    n, total = len(ascending), ascending.sum()
    if not total:
        return float("nan")
    return float(2 * (np.arange(1, n + 1) * ascending).sum() / (n * total) - (n + 1) / n)


def _compute_shares(items: Lists, categories: IntArray, n_categories: int) -> DoubleArray:
    """Compute the category shares of each row: (b, n_categories), zeros if no category is known."""
    row, column = np.nonzero(items >= 0)
    category = categories[items[row, column]]
    is_known = category != UNKNOWN
    flat_counts = np.bincount(row[is_known] * n_categories + category[is_known], minlength=len(items) * n_categories)
    counts = flat_counts.reshape(len(items), n_categories)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _squared_lengths(rows: npt.NDArray[np.floating] | Sparse) -> DoubleArray:
    """Compute the squared length of each row: (n,)."""
    if isinstance(rows, np.ndarray):
        return np.asarray((rows.astype(np.float64) ** 2).sum(axis=1))
    return np.asarray(rows.multiply(rows).sum(axis=1), np.float64).ravel()


def _divide(sums: DoubleArray, sizes: npt.NDArray[np.integer]) -> DoubleArray:
    """Divide elementwise; NaN where the size is 0."""
    out = np.full(len(sums), np.nan)
    np.divide(sums, sizes, out=out, where=sizes > 0)
    return out
