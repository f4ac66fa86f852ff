"""The sieve of `topk_sieve` compiled by Numba: one loop over the scores as they lie in the processor's cache.

In: blocks of rough scores (b, width) and what each may be off. Out: pairs (query, position) that hold all of the k
best, and the queries for which that cannot be promised. Needs the extra `fast`; without it `topk_sieve` does the same.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch

from recsys.vectors.topk.threshold import HALF, KEYS, STRIDE, initial_thresholds, min_key


class NumbaThresholdFilter:
    """As `topk_sieve.Sieve`, with the same bounds; for processors."""

    def __init__(self, off: torch.Tensor, k: int, *, dtype: torch.dtype, most: int) -> None:
        b = len(off)
        self.dtype, self._off, self.off, self.k = dtype, off, off.numpy(), k
        self._all = np.arange(b)
        self.floor = np.full(b, min_key(dtype), np.int32)
        self.count, self.full = np.zeros(b, np.int64), np.full(b, min(most, 4 * k + 64))
        self.key, self.place = (np.empty((b, most + STRIDE), np.int32) for _ in range(2))

    @staticmethod
    def block(k: int, device: torch.device) -> tuple[int, int]:
        """Queries and items scored at once: what the cache of one core holds (1 MB of bf16), whatever k is."""
        del k, device
        return 512, 1024

    @property
    def overflowed(self) -> torch.Tensor:
        return torch.from_numpy(self.count < 0)

    def add(self, scores: torch.Tensor, first: int, *, who: torch.Tensor | None = None) -> None:
        if first == 0 and who is None:
            self.floor = initial_thresholds(scores, self._off, self.k).int().numpy()
        keys = scores.view(KEYS[self.dtype]).numpy()
        state = self.floor, self.off, self.count, self.full, self.key, self.place
        users = self._all if who is None else who.numpy()
        _collect_above_threshold(keys, users, first, self.k, HALF[self.dtype], *state)

    def candidates(self) -> tuple[torch.Tensor, torch.Tensor]:
        _settle(self.k, HALF[self.dtype], self.floor, self.off, self.count, self.key, self.place)
        held = np.arange(self.key.shape[1])[None, : max(0, int(self.count.max(initial=0)))] < self.count[:, None]
        user, at = np.nonzero(held)
        return torch.from_numpy(user), torch.from_numpy(self.place[user, at].astype(np.int64))


def _compiled(function: Any) -> Any:
    """Kept on disk from run to run; where nothing can be written, compiled anew."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@_compiled
def _lifted(kth: int, off: float, half: float, bits: Any, number: Any) -> int:
    """The floor that a k-th best score allows, as a key; `number` is `bits` seen as float32."""
    short = half > 0.0  # bf16: the upper half of a float32
    raw = kth ^ ((kth >> 31) & (0x7FFF if short else 0x7FFFFFFF))
    bits[0] = raw << 16 if short else raw
    best = np.float64(number[0])
    low = best - math.ldexp(half, math.frexp(best)[1]) - 2.0 * off
    number[0] = low
    key = np.int64(bits[0])
    key = key ^ ((key >> 31) & 0x7FFFFFFF)
    if np.float64(number[0]) > low:
        key -= 1
    if short:  # down to the next bf16; negative ones lie at the end of their 65,536 float32
        exact = (key & 0xFFFF) == 0xFFFF
        short_key = key >> 16
        key = short_key - 1 if key < 0 and not exact else short_key
    return -1 if key == 0 else int(key)  # minus zero is as good as zero


@_compiled
def _quickselect(keys: Any, k: int) -> int:
    """The k-th largest; the keys are moved about (quickselect: numpy's takes seconds to compile)."""
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


@_compiled
def _tighten(
    u: int, k: int, half: float, floor: Any, off: Any, count: Any, key: Any, place: Any, bits: Any, number: Any
) -> None:
    """Raise the floor of a query by what is held of it, and drop what is below."""
    held = count[u]
    if held >= k:
        floor[u] = max(floor[u], _lifted(_quickselect(key[u, :held].copy(), k), off[u], half, bits, number))
    kept = 0
    for at in range(held):
        if key[u, at] >= floor[u]:
            key[u, kept], place[u, kept] = key[u, at], place[u, at]
            kept += 1
    count[u] = kept


@_compiled
def _reaching(row: Any, start: int, least: Any) -> int:
    """Where the next STRIDE scores begin of which one reaches the floor; -1 = there are none.

    Written so that the compiler compares 16 or 32 scores at once.
    """
    kind = row.dtype.type
    if least >= 0:  # the bits of negative numbers are below
        for first in range(start, row.shape[0], STRIDE):
            part, found = row[first : first + STRIDE], kind(0)
            for at in range(STRIDE):
                found |= kind(part[at] >= least)
            if found:
                return first
    else:
        shift = kind(8 * row.itemsize - 1)
        ones = kind(0x7FFF if row.itemsize == 2 else 0x7FFFFFFF)
        for first in range(start, row.shape[0], STRIDE):
            part, found = row[first : first + STRIDE], kind(0)
            for at in range(STRIDE):
                found |= kind(kind(part[at] ^ kind(kind(part[at] >> shift) & ones)) >= least)
            if found:
                return first
    return -1


@_compiled
def _collect_above_threshold(
    keys: Any,
    who: Any,
    first: int,
    k: int,
    half: float,
    floor: Any,
    off: Any,
    count: Any,
    full: Any,
    key: Any,
    place: Any,
) -> None:
    """Hold what reaches the floor of its query; a query that would need more room than there is gets count -1."""
    bits = np.zeros(1, np.int32)
    number = bits.view(np.float32)
    most = key.shape[1] - STRIDE
    kind = keys.dtype.type
    ones = np.int32(0x7FFF if half > 0.0 else 0x7FFFFFFF)
    for line in range(keys.shape[0]):
        row, u = keys[line], who[line]
        least = kind(floor[u])
        start = _reaching(row, 0, least)
        while start >= 0:
            if count[u] > full[u]:
                _tighten(u, k, half, floor, off, count, key, place, bits, number)
                full[u] = min(most, count[u] + 2 * k + 64)
                if count[u] > most:
                    count[u], floor[u] = -1, ones
                least = kind(floor[u])
            if count[u] < 0:
                break
            held, keys_held, places_held = count[u], key[u], place[u]
            for at in range(STRIDE):  # all are written down; the next is written over what does not reach the floor
                raw = np.int32(row[start + at])
                value = np.int32(raw ^ np.int32(np.int32(raw >> 31) & ones))
                keys_held[held], places_held[held] = value, first + start + at
                held += value >= least
            count[u] = held
            start = _reaching(row, start + STRIDE, least)


@_compiled
def _settle(k: int, half: float, floor: Any, off: Any, count: Any, key: Any, place: Any) -> None:
    """Drop what is below the last floors."""
    bits = np.zeros(1, np.int32)
    number = bits.view(np.float32)
    for u in range(len(count)):
        if count[u] >= 0:
            _tighten(u, k, half, floor, off, count, key, place, bits, number)
