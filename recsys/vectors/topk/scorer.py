"""Exact top-k search: the k largest inner products per query, ties by the lower item row.

In: queries (b, d), items (n, d), the items that may be returned.
Out: scores (b, k) descending and rows (b, k); none = (-inf, -1).

Approximate scores come from a product of bf16 numbers where the processor multiplies them in hardware, else of
float32. A threshold filter reads each once and keeps the few items that can still be among the k best, given a bound
on the rounding error (`low_precision`, `threshold`). Only these are scored exactly (`rescore`). A query with too many
candidates is filtered again with float32 and then, for example with thousands of equal products, scored against each
item.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from recsys.errors import ConfigError, UsageError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk import rescore
from recsys.vectors.topk.exclusions import Exclusions
from recsys.vectors.topk.low_precision import LowPrecisionItems, supports_bf16
from recsys.vectors.topk.threads import run_in_threads
from recsys.vectors.topk.threshold import STRIDE, ThresholdFilter

if TYPE_CHECKING:
    from recsys.vectors.topk.threshold_numba import NumbaThresholdFilter

Pairs = tuple[IntArray, IntArray]

_BLOCK_ITEMS = 1024
"""Items in one matrix product."""

_NUMBA_MIN_SCORES = 1 << 27
"""Scores to compute before compiled code is loaded; loading takes a second, compiling a few."""


class ExactScorer:
    """Items prepared for search: holds a bf16 (or float32) copy of the items that may be returned."""

    def __init__(
        self,
        items: FloatArray,
        *,
        allowed: BoolArray | None = None,
        device: str = "cpu",
        precision: str = "auto",
        filter_backend: str = "auto",
        block: tuple[int, int] | None = None,
    ) -> None:
        """Check, measure and convert the items.

        Args:
            items: (n, d).
            allowed: (n,) bool, items that may be returned; default all.
            device: device of the approximate products.
            precision: of the approximate products: "bf16", "fp32", or "auto" for the fastest on the device. The results
                are the same.
            filter_backend: implementation of the threshold filter: "torch", "numba" (compiled, CPU only), or "auto" for
                Numba where it is installed and there are enough scores. The results are the same.
            block: queries and items scored at once, items rounded up to a multiple of 64, or of
                1024 above that; bounds memory.

        Raises:
            UsageError: an item is not finite.
        """
        self.items = check_finite(items, "item")
        self.device = torch.device(device)
        self.rows = np.flatnonzero(allowed) if allowed is not None else np.arange(len(items), dtype=np.int64)
        self._block_shape, self._block_items = block, _BLOCK_ITEMS
        if min(block[1] if block else _BLOCK_ITEMS, len(self.rows)) < _BLOCK_ITEMS:
            self._block_items = -(-min(block[1] if block else _BLOCK_ITEMS, len(self.rows)) // STRIDE) * STRIDE
        fast = precision == "bf16" or (precision == "auto" and supports_bf16(self.device))
        self._dtypes = [torch.bfloat16, torch.float32] if fast else [torch.float32]
        self._filter_backend = filter_backend
        self._scored_pairs = 0
        self._low_precision: dict[torch.dtype, LowPrecisionItems] = {}

    def top_k(self, queries: FloatArray, k: int, *, excluded: Pairs | None = None) -> tuple[FloatArray, IntArray]:
        """Find the k best items of each query.

        Args:
            queries: (b, d).
            k: results per query; where k exceeds the number of items, the last positions are empty.
            excluded: pairs (position of the query, item row) that may not be returned, such as earlier purchases.

        Returns:
            scores (b, k) float32 descending, rows (b, k) int64; (-inf, -1) where there is no further item. A score is
            the sum in float64, rounded to float32.

        Raises:
            UsageError: a query is not finite, or a score is beyond the range of float32.
        """
        queries = check_finite(queries, "query")
        b = len(queries)
        scores = np.full((b, k), -np.inf, np.float32)
        rows = np.full((b, k), -1, np.int64)
        if not len(self.rows) or not b or not k:
            return scores, rows
        exclusions = Exclusions(excluded, b)
        pending = np.arange(b)
        for dtype in self._dtypes:
            low_precision = self._low_precision_items(dtype)
            all_zero = low_precision.zero | ~queries[pending].any(axis=1)  # all scores are zero: the lowest rows
            for user in pending[all_zero].tolist():
                first = _without(self.rows[: k + exclusions.count(user)], exclusions.rows(user))[:k]
                scores[user, : len(first)], rows[user, : len(first)] = 0, first
            pending = self._search_filtered(queries, pending[~all_zero], low_precision, exclusions, scores, rows)
        for user in pending.tolist():
            candidates = _without(self.rows, exclusions.rows(user))
            scores[user], rows[user] = rescore.brute_force(queries[user], self.items, candidates, k)
        return scores, rows

    def _low_precision_items(self, dtype: torch.dtype) -> LowPrecisionItems:
        """Return the items in a number format, converted on first use."""
        if dtype not in self._low_precision:
            n = len(self.rows)
            # Consecutive items are spread over the catalogue: neighbouring rows are often similar, and a block
            # full of items the query matches would pass the filter entirely.
            stride = -(-n // _BLOCK_ITEMS)
            order = np.concatenate([self.rows[start::stride] for start in range(stride)])
            bounds = np.minimum(np.arange(0, n + self._block_items, self._block_items), n)
            cache_blocks = dtype == self._dtypes[0]
            self._low_precision[dtype] = LowPrecisionItems(
                self.items, order, bounds, dtype=dtype, device=self.device, cache_blocks=cache_blocks
            )
        return self._low_precision[dtype]

    def _search_filtered(
        self,
        queries: FloatArray,
        pending: IntArray,
        low_precision: LowPrecisionItems,
        exclusions: Exclusions,
        scores: FloatArray,
        rows: IntArray,
    ) -> IntArray:
        """Write the results that the threshold filter proves complete; return the remaining queries."""
        n, k = len(self.rows), scores.shape[1]
        self._scored_pairs += len(pending) * n
        filter_class = select_threshold_filter(self._filter_backend, self.device, work=self._scored_pairs)
        n_queries, n_items = self._block_shape or filter_class.block_shape(k, self.device)
        n_items = -(-min(n_items, n) // self._block_items) * self._block_items
        score_block = partial(
            self._score_block, filter_class, n_items, queries, low_precision, exclusions, scores, rows
        )
        return run_in_threads(score_block, pending, max_block=n_queries, device=self.device)

    def _score_block(
        self,
        filter_class: type[ThresholdFilter | NumbaThresholdFilter],
        width: int,
        queries: FloatArray,
        low_precision: LowPrecisionItems,
        exclusions: Exclusions,
        scores: FloatArray,
        rows: IntArray,
        part: IntArray,
    ) -> IntArray:
        """Filter and rescore the queries `part`; return those that overflowed."""
        n, k = len(low_precision.order), scores.shape[1]
        block_queries = np.ascontiguousarray(queries[part])
        rounded_queries, error_bound = low_precision.convert_queries(block_queries)
        threshold_filter = filter_class(error_bound, k, dtype=low_precision.dtype, max_candidates=16 * k + 1024)
        excluded = exclusions.block_positions(part, low_precision, width)
        product = torch.empty((len(part), width), dtype=low_precision.dtype, device=self.device)
        flat = product.view(-1)
        for i, first in enumerate(range(0, n, width)):
            for start in range(first, min(first + width, n), self._block_items):
                items = low_precision.block(start // self._block_items)
                torch.mm(rounded_queries, items, out=product[:, start - first : start - first + items.shape[1]])
            if first + width > n:
                product[:, n - first :] = -torch.inf
            if excluded is not None:
                flat.index_fill_(0, excluded[i].to(self.device), -torch.inf)
            threshold_filter.add(product, first)
        user, position = (values.cpu().numpy() for values in threshold_filter.candidates())
        row = low_precision.order[position]
        exact = rescore.exact_scores(block_queries, self.items, user, row)
        complete = ~threshold_filter.overflowed.cpu().numpy()
        best_scores, best_rows = rescore.rank_per_query(exact, user, row, b=len(part), k=k)
        scores[part[complete]], rows[part[complete]] = best_scores[complete], best_rows[complete]
        overflowed: IntArray = part[~complete]
        return overflowed


def dense_top_k(scores: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Return the k largest of each row of a score matrix, descending, ties by the lower column.

    -inf is never returned.
    """
    width = min(k, scores.shape[1])
    best = -np.partition(-scores, max(0, width - 1), axis=1)[:, :width] if width else scores[:, :0]
    user, column = np.nonzero((scores >= best.min(axis=1, initial=np.inf)[:, None]) & (scores > -np.inf))
    return rescore.rank_per_query(scores[user, column], user, column, b=len(scores), k=k)


def top_k(
    queries: FloatArray,
    items: FloatArray,
    k: int,
    *,
    allowed: BoolArray | None = None,
    excluded: Pairs | None = None,
    block: tuple[int, int] | None = None,
    device: str = "cpu",
    precision: str = "auto",
    filter_backend: str = "auto",
) -> tuple[FloatArray, IntArray]:
    """Find the k best items of each query; use `ExactScorer` to search the same items more than once.

    Arguments, result and errors are those of `ExactScorer` and `ExactScorer.top_k`.
    """
    scorer = ExactScorer(
        items, allowed=allowed, device=device, precision=precision, filter_backend=filter_backend, block=block
    )
    return scorer.top_k(queries, k, excluded=excluded)


def select_threshold_filter(
    name: str, device: torch.device, *, work: int
) -> type[ThresholdFilter | NumbaThresholdFilter]:
    """Return the threshold filter of that name.

    "auto" selects the compiled one where Numba is installed and there are enough scores (`work`).

    Raises:
        ConfigError: Numba is requested and not installed.
    """
    installed = importlib.util.find_spec("numba") is not None
    if name == "numba" and not installed:
        raise ConfigError("the compiled threshold filter needs Numba: pip install 'recsys[fast]'")
    if device.type != "cpu" or name == "torch" or not installed or (name == "auto" and work < _NUMBA_MIN_SCORES):
        return ThresholdFilter
    from recsys.vectors.topk.threshold_numba import NumbaThresholdFilter

    return NumbaThresholdFilter


def check_finite(vectors: FloatArray, name: str) -> FloatArray:
    """Return the vectors unchanged if all are finite.

    Raises:
        UsageError: a vector is not finite.
    """
    for start in range(0, len(vectors), 1 << 16):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + (1 << 16)]).all(axis=1))
        if len(bad):
            raise UsageError(f"the vector of {name} {start + int(bad[0])} is not a number; build the vectors again")
    return vectors


def _without(rows: IntArray, excluded: IntArray) -> IntArray:
    """Return the rows that are not excluded."""
    return rows[~np.isin(rows, excluded)] if len(excluded) else rows
