"""Numba version of `threshold`: one loop over the scores while they lie in the processor's cache.

In: blocks of approximate scores (b, width) and a bound on their error. Out: pairs (query, position) that contain all of
the k best, and the queries for which that is not guaranteed. Needs the extra `fast`; without it `threshold` does the
same.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch

from recsys.vectors.topk.threshold import HALF_STEP, KEY_DTYPES, STRIDE, initial_thresholds, min_key


class NumbaThresholdFilter:
    """Compiled `threshold.ThresholdFilter` with the same bounds; CPU only."""

    def __init__(self, error_bound: torch.Tensor, k: int, *, dtype: torch.dtype, max_candidates: int) -> None:
        b = len(error_bound)
        self.dtype, self._error_bound, self.error_bound, self.k = dtype, error_bound, error_bound.numpy(), k
        self._all_queries = np.arange(b)
        self.threshold = np.full(b, min_key(dtype), np.int32)
        self.count, self.tighten_above = np.zeros(b, np.int64), np.full(b, min(max_candidates, 4 * k + 64))
        self.key, self.position = (np.empty((b, max_candidates + STRIDE), np.int32) for _ in range(2))

    @staticmethod
    def block_shape(k: int, device: torch.device) -> tuple[int, int]:
        """Return the number of queries and items to score at once.

        1 MB of bf16 scores fits into the cache of one core, whatever k is.
        """
        del k, device
        return 512, 1024

    @property
    def overflowed(self) -> torch.Tensor:
        """Queries with more candidates than fit: (b,) bool."""
        return torch.from_numpy(self.count < 0)

    def add(self, scores: torch.Tensor, first: int, *, queries: torch.Tensor | None = None) -> None:
        """Read a block of scores; see `ThresholdFilter.add`."""
        if first == 0 and queries is None:
            self.threshold = initial_thresholds(scores, self._error_bound, self.k).int().numpy()
        keys = scores.view(KEY_DTYPES[self.dtype]).numpy()
        state = self.threshold, self.error_bound, self.count, self.tighten_above, self.key, self.position
        users = self._all_queries if queries is None else queries.numpy()
        _collect_above_threshold(keys, users, first, self.k, HALF_STEP[self.dtype], *state)

    def candidates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries and positions that contain all of the k best, sorted by query: (m,) each."""
        _tighten_all(
            self.k, HALF_STEP[self.dtype], self.threshold, self.error_bound, self.count, self.key, self.position
        )
        filled = np.arange(self.key.shape[1])[None, : max(0, int(self.count.max(initial=0)))] < self.count[:, None]
        user, slot = np.nonzero(filled)
        return torch.from_numpy(user), torch.from_numpy(self.position[user, slot].astype(np.int64))


def _compile(function: Any) -> Any:
    """Compile a function and cache it on disk; where nothing can be written, compile it in each process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@_compile
def _threshold_key(kth: int, error_bound: float, half: float, bits: Any, number: Any) -> int:
    """Return the threshold that follows from a k-th best score, as a key.

    `number` is `bits` viewed as float32.
    """
    short = half > 0.0  # bf16: the upper half of a float32
    raw = kth ^ ((kth >> 31) & (0x7FFF if short else 0x7FFFFFFF))
    bits[0] = raw << 16 if short else raw
    best = np.float64(number[0])
    low = best - math.ldexp(half, math.frexp(best)[1]) - 2.0 * error_bound
    number[0] = low
    key = np.int64(bits[0])
    key = key ^ ((key >> 31) & 0x7FFFFFFF)
    if np.float64(number[0]) > low:
        key -= 1
    if short:  # round down to the next bf16; negative ones lie at the end of their 65,536 float32
        exact = (key & 0xFFFF) == 0xFFFF
        short_key = key >> 16
        key = short_key - 1 if key < 0 and not exact else short_key
    return -1 if key == 0 else int(key)  # minus zero equals zero


@_compile
def _quickselect(keys: Any, k: int) -> int:
    """Return the k-th largest; reorders the keys (own quickselect: numpy's takes seconds to compile)."""
    low, high = 0, len(keys) - 1
    while low < high:
        middle = keys[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while keys[left] > middle:
                left += 1
            while keys[right] < middle:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left, right = left + 1, right - 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return int(keys[k - 1])


@_compile
def _tighten(
    u: int,
    k: int,
    half: float,
    threshold: Any,
    error_bound: Any,
    count: Any,
    key: Any,
    position: Any,
    bits: Any,
    number: Any,
) -> None:
    """Raise the threshold of query `u` by its candidates so far, and drop those below."""
    n_candidates = count[u]
    if n_candidates >= k:
        threshold[u] = max(
            threshold[u],
            _threshold_key(_quickselect(key[u, :n_candidates].copy(), k), error_bound[u], half, bits, number),
        )
    n_kept = 0
    for i in range(n_candidates):
        if key[u, i] >= threshold[u]:
            key[u, n_kept], position[u, n_kept] = key[u, i], position[u, i]
            n_kept += 1
    count[u] = n_kept


@_compile
def _next_stride(row: Any, start: int, threshold: Any) -> int:
    """Return the start of the next STRIDE scores of which one reaches `least`; -1 = there are none.

    Written so that the compiler compares 16 or 32 scores at once.
    """
    kind = row.dtype.type
    if threshold >= 0:  # the keys of negative numbers are below any such threshold
        for first in range(start, row.shape[0], STRIDE):
            part, reached = row[first : first + STRIDE], kind(0)
            for i in range(STRIDE):
                reached |= kind(part[i] >= threshold)
            if reached:
                return first
    else:
        shift = kind(8 * row.itemsize - 1)
        ones = kind(0x7FFF if row.itemsize == 2 else 0x7FFFFFFF)
        for first in range(start, row.shape[0], STRIDE):
            part, reached = row[first : first + STRIDE], kind(0)
            for i in range(STRIDE):
                reached |= kind(kind(part[i] ^ kind(kind(part[i] >> shift) & ones)) >= threshold)
            if reached:
                return first
    return -1


@_compile
def _collect_above_threshold(
    keys: Any,
    queries: Any,
    first: int,
    k: int,
    half: float,
    threshold: Any,
    error_bound: Any,
    count: Any,
    tighten_above: Any,
    key: Any,
    position: Any,
) -> None:
    """Collect the scores that reach their query's threshold.

    A query with more candidates than fit gets count -1.
    """
    bits = np.zeros(1, np.int32)
    number = bits.view(np.float32)
    max_candidates = key.shape[1] - STRIDE
    kind = keys.dtype.type
    magnitude_bits = np.int32(0x7FFF if half > 0.0 else 0x7FFFFFFF)
    for i in range(keys.shape[0]):
        row, u = keys[i], queries[i]
        query_threshold = kind(threshold[u])
        start = _next_stride(row, 0, query_threshold)
        while start >= 0:
            if count[u] > tighten_above[u]:
                _tighten(u, k, half, threshold, error_bound, count, key, position, bits, number)
                tighten_above[u] = min(max_candidates, count[u] + 2 * k + 64)
                if count[u] > max_candidates:
                    count[u], threshold[u] = -1, magnitude_bits
                query_threshold = kind(threshold[u])
            if count[u] < 0:
                break
            n_candidates, query_keys, query_positions = count[u], key[u], position[u]
            for j in range(STRIDE):  # each score is written; the next overwrites it if it is below the threshold
                raw = np.int32(row[start + j])
                value = np.int32(raw ^ np.int32(np.int32(raw >> 31) & magnitude_bits))
                query_keys[n_candidates], query_positions[n_candidates] = value, first + start + j
                n_candidates += value >= query_threshold
            count[u] = n_candidates
            start = _next_stride(row, start + STRIDE, query_threshold)


@_compile
def _tighten_all(k: int, half: float, threshold: Any, error_bound: Any, count: Any, key: Any, position: Any) -> None:
    """Drop the candidates below the final thresholds."""
    bits = np.zeros(1, np.int32)
    number = bits.view(np.float32)
    for u in range(len(count)):
        if count[u] >= 0:
            _tighten(u, k, half, threshold, error_bound, count, key, position, bits, number)
