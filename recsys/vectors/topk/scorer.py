"""The scorer: the k largest inner products of each query with all items, exact, ties by the lower row.

In: queries (b, d), items (n, d), what may be returned.
Out: scores (b, k) descending and rows (b, k); none = (-inf, -1).

Rough scores come from a product of bf16 numbers where the processor multiplies them in hardware, else of float32. A
sieve reads each once and keeps the few items that can still be among the k best, given a bound on the rounding
(`topk_rough`, `topk_sieve`). Only these are scored again, truly (`topk_exact`). A query that would need too many is
sieved again with float32, and then, say for thousands of equal products, compared with each item.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from recsys.errors import ConfigError, UsageError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.topk import rescore as topk_exact
from recsys.vectors.topk.exclusions import Exclusions
from recsys.vectors.topk.low_precision import LowPrecisionItems, supports_bf16
from recsys.vectors.topk.threads import run_in_threads
from recsys.vectors.topk.threshold import STRIDE, ThresholdFilter

if TYPE_CHECKING:
    from recsys.vectors.topk.threshold_numba import NumbaThresholdFilter

Pairs = tuple[IntArray, IntArray]

_STEP = 1024
"""Items in one product."""

_WORTH = 1 << 27
"""Scores looked at before compiled code is loaded; it takes a second, on the first day a few."""


class ExactScorer:
    """Items made ready for search: holds a bf16 (or float32) copy of those that may be returned."""

    def __init__(
        self,
        items: FloatArray,
        *,
        allowed: BoolArray | None = None,
        device: str = "cpu",
        precision: str = "auto",
        sieve: str = "auto",
        block: tuple[int, int] | None = None,
    ) -> None:
        """Check, measure and convert the items.

        Args:
            items: (n, d).
            allowed: (n,) bool, items that may be returned; default all.
            device: where the rough products are taken.
            precision: of the rough products: "bf16", "fp32", or "auto" for what the device does fastest. The answers
                are the same.
            sieve: "torch", "numba" (compiled, for processors), or "auto" for Numba where it is installed and there
                is much to do. The answers are the same.
            block: queries and items scored at once, items rounded up to a multiple of 64, or of
                1024 above that; bounds memory.

        Raises:
            UsageError: an item is not finite.
        """
        self.items = check_finite(items, "item")
        self.device = torch.device(device)
        self.rows = np.flatnonzero(allowed) if allowed is not None else np.arange(len(items), dtype=np.int64)
        self._given, self._step = block, _STEP
        if min(block[1] if block else _STEP, len(self.rows)) < _STEP:
            self._step = -(-min(block[1] if block else _STEP, len(self.rows)) // STRIDE) * STRIDE
        fast = precision == "bf16" or (precision == "auto" and supports_bf16(self.device))
        self._dtypes = [torch.bfloat16, torch.float32] if fast else [torch.float32]
        self._sieve = sieve
        self._looked = 0
        self._made: dict[torch.dtype, LowPrecisionItems] = {}

    def top_k(self, queries: FloatArray, k: int, *, excluded: Pairs | None = None) -> tuple[FloatArray, IntArray]:
        """Find the k best items of each query.

        Args:
            queries: (b, d).
            k: length of the lists; more than there are items gives empty places at the end.
            excluded: pairs (position of the query, item row) that may not be returned, e.g. what a user has bought.

        Returns:
            scores (b, k) float32 descending, rows (b, k) int64; (-inf, -1) where there is no further item. A score is
            the sum in float64, rounded to float32.

        Raises:
            UsageError: a query is not finite, or a score beyond what float32 holds.
        """
        queries = check_finite(queries, "query")
        b = len(queries)
        scores = np.full((b, k), -np.inf, np.float32)
        rows = np.full((b, k), -1, np.int64)
        if not len(self.rows) or not b or not k:
            return scores, rows
        seen = Exclusions(excluded, b)
        todo = np.arange(b)
        for dtype in self._dtypes:
            rough = self._rough(dtype)
            flat = rough.zero | ~queries[todo].any(axis=1)  # all scores are zero: the lowest rows
            for user in todo[flat].tolist():
                first = _without(self.rows[: k + seen.count(user)], seen.rows(user))[:k]
                scores[user, : len(first)], rows[user, : len(first)] = 0, first
            todo = self._sieved(queries, todo[~flat], rough, seen, scores, rows)
        for user in todo.tolist():
            own = _without(self.rows, seen.rows(user))
            scores[user], rows[user] = topk_exact.brute_force(queries[user], self.items, own, k)
        return scores, rows

    def _rough(self, dtype: torch.dtype) -> LowPrecisionItems:
        if dtype not in self._made:
            n = len(self.rows)
            # Items that follow each other come from all over the catalogue: neighbours are often alike, and a block
            # full of what a user likes would pass the sieve as a whole.
            apart = -(-n // _STEP)
            order = np.concatenate([self.rows[start::apart] for start in range(apart)])
            bounds = np.minimum(np.arange(0, n + self._step, self._step), n)
            kept = dtype == self._dtypes[0]
            self._made[dtype] = LowPrecisionItems(self.items, order, bounds, dtype=dtype, device=self.device, kept=kept)
        return self._made[dtype]

    def _sieved(
        self,
        queries: FloatArray,
        todo: IntArray,
        rough: LowPrecisionItems,
        seen: Exclusions,
        scores: FloatArray,
        rows: IntArray,
    ) -> IntArray:
        """Fill in what the sieve can prove; the queries it cannot."""
        n, k = len(self.rows), scores.shape[1]
        self._looked += len(todo) * n
        kind = select_threshold_filter(self._sieve, self.device, work=self._looked)
        height, width = self._given or kind.block(k, self.device)
        width = -(-min(width, n) // self._step) * self._step
        work = partial(self._block, kind, width, queries, rough, seen, scores, rows)
        return run_in_threads(work, todo, height=height, device=self.device)

    def _block(
        self,
        kind: type[ThresholdFilter | NumbaThresholdFilter],
        width: int,
        queries: FloatArray,
        rough: LowPrecisionItems,
        seen: Exclusions,
        scores: FloatArray,
        rows: IntArray,
        part: IntArray,
    ) -> IntArray:
        n, k = len(rough.order), scores.shape[1]
        own = np.ascontiguousarray(queries[part])
        asked, off = rough.queries(own)
        sieve = kind(off, k, dtype=rough.dtype, most=16 * k + 1024)
        barred = seen.blocks(part, rough, width)
        product = torch.empty((len(part), width), dtype=rough.dtype, device=self.device)
        flat = product.view(-1)
        for at, first in enumerate(range(0, n, width)):
            for start in range(first, min(first + width, n), self._step):
                items = rough.block(start // self._step)
                torch.mm(asked, items, out=product[:, start - first : start - first + items.shape[1]])
            if first + width > n:
                product[:, n - first :] = -torch.inf
            if barred is not None:
                flat.index_fill_(0, barred[at].to(self.device), -torch.inf)
            sieve.add(product, first)
        user, place = (found.cpu().numpy() for found in sieve.candidates())
        row = rough.order[place]
        value = topk_exact.exact_scores(own, self.items, user, row)
        proven = ~sieve.overflowed.cpu().numpy()
        best, found = topk_exact.rank_per_query(value, user, row, b=len(part), k=k)
        scores[part[proven]], rows[part[proven]] = best[proven], found[proven]
        left: IntArray = part[~proven]
        return left


def dense_top_k(scores: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """The k largest of each row of a dense block, descending, ties by the lower column; -inf is never returned."""
    width = min(k, scores.shape[1])
    value = -np.partition(-scores, max(0, width - 1), axis=1)[:, :width] if width else scores[:, :0]
    user, column = np.nonzero((scores >= value.min(axis=1, initial=np.inf)[:, None]) & (scores > -np.inf))
    return topk_exact.rank_per_query(scores[user, column], user, column, b=len(scores), k=k)


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
    sieve: str = "auto",
) -> tuple[FloatArray, IntArray]:
    """Find the k best items of each query; `ExactScorer` where the same items are asked more than once.

    The arguments, the answer and what is refused are those of `ExactScorer` and `ExactScorer.top_k`.
    """
    scorer = ExactScorer(items, allowed=allowed, device=device, precision=precision, sieve=sieve, block=block)
    return scorer.top_k(queries, k, excluded=excluded)


def select_threshold_filter(
    name: str, device: torch.device, *, work: int
) -> type[ThresholdFilter | NumbaThresholdFilter]:
    """The sieve of that name; "auto" takes the compiled one where it is there and there are enough scores to look at.

    Raises:
        ConfigError: Numba is asked for and not installed.
    """
    there = importlib.util.find_spec("numba") is not None
    if name == "numba" and not there:
        raise ConfigError("the compiled sieve needs Numba: pip install 'recsys[fast]'")
    if device.type != "cpu" or name == "torch" or not there or (name == "auto" and work < _WORTH):
        return ThresholdFilter
    from recsys.vectors.topk.threshold_numba import NumbaThresholdFilter

    return NumbaThresholdFilter


def check_finite(vectors: FloatArray, name: str) -> FloatArray:
    """The vectors, all finite.

    Raises:
        UsageError: one is not.
    """
    for start in range(0, len(vectors), 1 << 16):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + (1 << 16)]).all(axis=1))
        if len(bad):
            raise UsageError(f"the vector of {name} {start + int(bad[0])} is not a number; build the vectors again")
    return vectors


def _without(rows: IntArray, barred: IntArray) -> IntArray:
    return rows[~np.isin(rows, barred)] if len(barred) else rows
