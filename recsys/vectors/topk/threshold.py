"""Streaming threshold filter: keeps the candidates whose approximate score can still reach the top k.

In: blocks of approximate scores (b, width) and a bound on their error. Out: pairs (query, position) that contain all of
the k best, and the queries for which that is not guaranteed.
"""

from __future__ import annotations

import numpy as np
import torch

STRIDE = 64
"""The width of a block of scores is a multiple of this."""

_FOLD = 32
"""Scores of which only the largest is compared first; divides STRIDE."""

KEY_DTYPES = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
"""Integer type that sorts the bits of each score type."""
HALF_STEP = {torch.bfloat16: 2.0**-9, torch.float32: 0.0}
"""Half the distance to the next number, for numbers from 0.5 to 1.

A bf16 product is rounded once, after the summation.
"""


class ThresholdFilter:
    """Raises a threshold under each query's scores while blocks are read.

    The k-th best approximate score so far, t, was rounded from t - h at least, and k items have exact scores of t - h -
    e or more, with e the error bound of an approximate score. An item with a lower exact score is none of the k best;
    an item whose approximate score is below t - h - 2e, rounded down, has a lower exact score. That is the threshold;
    scores that reach it are kept.

    Scores are compared as integers: the bits of non-negative floats are in order, and comparing integers is two to
    thirty times as fast as comparing bf16 numbers. Where a threshold is negative, the bits of negative numbers are
    flipped first.
    """

    def __init__(self, error_bound: torch.Tensor, k: int, *, dtype: torch.dtype, max_candidates: int) -> None:
        """Start with thresholds that every score but -inf reaches.

        Args:
            error_bound: (b,) float64, error bound of a query's approximate scores.
            k: results per query.
            dtype: of the scores.
            max_candidates: candidates kept per query; a query that needs more overflows.
        """
        self.error_bound, self.k, self.dtype, self.max_candidates = error_bound, k, dtype, max_candidates
        self.b, device = len(error_bound), error_bound.device
        self._growth = self.b * (4 * k + 64)  # candidates collected before thresholds are raised
        self.threshold = torch.full((self.b,), min_key(dtype), dtype=KEY_DTYPES[dtype], device=device)
        self.overflowed = torch.zeros(self.b, dtype=torch.bool, device=device)
        self._any_negative = True
        self._n_candidates, self._tighten_above = 0, self._growth
        self._user = [torch.empty(0, dtype=torch.int64, device=device)]
        self._position = [torch.empty(0, dtype=torch.int64, device=device)]
        self._key = [torch.empty(0, dtype=KEY_DTYPES[dtype], device=device)]

    @staticmethod
    def block_shape(k: int, device: torch.device) -> tuple[int, int]:
        """Return the number of queries and items to score at once.

        Blocks are wide enough for the maxima of the first one to separate the k best.
        """
        n_queries, n_items = (512, 4096) if device.type == "cpu" else (8192, 32_768)
        block_items = max(n_items, 2 * _FOLD * k)
        return max(1, n_queries * n_items // block_items), block_items

    def add(self, scores: torch.Tensor, first: int, *, queries: torch.Tensor | None = None) -> None:
        """Read a block of scores.

        Args:
            scores: (b, width), width a multiple of STRIDE.
            first: position of the first column; at 0 with all queries the initial thresholds are computed.
            queries: (m,) ascending, the queries of the rows, where only these are present: then scores are (m, width).
        """
        b, width = scores.shape
        keys, stride = scores.view(KEY_DTYPES[self.dtype]), width // _FOLD
        if first == 0 and queries is None:
            self._raise_thresholds(initial_thresholds(scores, self.error_bound, self.k))
        if self._any_negative:
            keys = sortable_bits(keys)
        peaks = keys.view(b, _FOLD, stride).amax(dim=1)
        threshold = self.threshold if queries is None else self.threshold[queries]
        user, column = (peaks >= threshold[:, None]).nonzero(as_tuple=True)
        steps = torch.arange(0, width, stride, device=scores.device)
        folded = keys.flatten().take((user * width + column)[:, None] + steps)
        hit, step = (folded >= threshold[user][:, None]).nonzero(as_tuple=True)
        self._user.append(user[hit] if queries is None else queries[user[hit]])
        self._position.append(column[hit] + step * stride + first)
        self._key.append(folded[hit, step])
        self._n_candidates += len(hit)
        if self._n_candidates > self._tighten_above:
            self._tighten()

    def candidates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries and positions that contain all of the k best, sorted by query: (m,) each."""
        self._tighten()
        return self._user[0], self._position[0]

    def _raise_thresholds(self, threshold: torch.Tensor) -> None:
        """Raise each threshold to the given one (b,) where that is higher."""
        self.threshold = torch.maximum(self.threshold, threshold)
        self._any_negative = bool((self.threshold < 0).any())

    def _tighten(self) -> None:
        """Raise the thresholds by the candidates so far, and drop those below."""
        user, position, key = torch.cat(self._user), torch.cat(self._position), torch.cat(self._key)
        user, order = torch.sort(user, stable=True)
        position, key = position[order], key[order]
        count = torch.bincount(user, minlength=self.b)
        rank = torch.arange(len(user), device=user.device) - (count.cumsum(0) - count)[user]
        width = min(int(count.max()), 4 * self.max_candidates)
        if width >= self.k:
            table = torch.full((self.b, width), min_key(self.dtype), dtype=key.dtype, device=key.device)
            inside = rank < width  # the k-th best of a part is a valid threshold too, only a lower one
            table[user[inside], rank[inside]] = key[inside]
            threshold = _threshold_keys(_kth_largest(table, self.k), self.error_bound, self.dtype)
            self._raise_thresholds(torch.where(count >= self.k, threshold, self.threshold))
        keep = key >= self.threshold[user]
        overflowed = torch.bincount(user[keep], minlength=self.b) > self.max_candidates
        if bool(overflowed.any()):
            self.overflowed |= overflowed
            self.threshold[overflowed] = torch.iinfo(self.threshold.dtype).max
            keep &= ~overflowed[user]
        self._user, self._position, self._key = [user[keep]], [position[keep]], [key[keep]]
        self._n_candidates = len(self._user[0])
        self._tighten_above = self._n_candidates + self._growth


def sortable_bits(keys: torch.Tensor) -> torch.Tensor:
    """Map float bits to integers in the order of the floats, and back again."""
    kind = torch.iinfo(keys.dtype)
    return keys ^ ((keys >> (kind.bits - 1)) & kind.max)


def min_key(dtype: torch.dtype) -> int:
    """Return the key of the lowest finite number."""
    return int(sortable_bits(torch.tensor([-torch.inf], dtype=dtype).view(KEY_DTYPES[dtype]))) + 1


def initial_thresholds(scores: torch.Tensor, error_bound: torch.Tensor, k: int) -> torch.Tensor:
    """Compute thresholds from the first block of scores (b, width): (b,) keys.

    Only the maximum of each fold of scores is used; the k-th best of these maxima is as valid a threshold as the k-th
    best of all scores.
    """
    b, width = scores.shape
    keys = sortable_bits(scores.view(KEY_DTYPES[scores.dtype]))
    if width // _FOLD >= k:
        keys = keys.view(b, _FOLD, width // _FOLD).amax(dim=1)
    if width < k:
        return torch.full((b,), min_key(scores.dtype), dtype=keys.dtype, device=keys.device)
    return _threshold_keys(_kth_largest(keys, k), error_bound, scores.dtype)


def _threshold_keys(kth: torch.Tensor, error_bound: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the thresholds that follow from k-th best scores: (b,) keys."""
    best = sortable_bits(kth.clamp(min=min_key(dtype))).view(dtype).double()
    half = torch.ldexp(torch.full_like(best, HALF_STEP[dtype]), torch.frexp(best)[1])
    bound = best - half - 2 * error_bound
    rounded = bound.to(dtype)
    key = sortable_bits(rounded.view(KEY_DTYPES[dtype])) - (rounded.double() > bound).to(KEY_DTYPES[dtype])
    key = torch.where(key == 0, -1, key)  # minus zero equals zero
    return key.clamp(min=min_key(dtype)).to(KEY_DTYPES[dtype])


def _kth_largest(keys: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th largest of each row."""
    if keys.device.type != "cpu":
        return keys.topk(k, dim=1).values[:, -1].contiguous()
    index = keys.shape[1] - k  # NumPy's partition of short rows takes a tenth of the time of torch.topk
    return torch.from_numpy(np.ascontiguousarray(np.partition(keys.numpy(), index, axis=1)[:, index]))
