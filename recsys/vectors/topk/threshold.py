"""The sieve: looks at each rough score once and keeps the few that can still be among a query's k best.

In: blocks of rough scores (b, width) and what each may be off. Out: pairs (query, position) that hold all of the k
best, and the queries for which that cannot be promised.
"""

from __future__ import annotations

import numpy as np
import torch

STRIDE = 64
"""Blocks of scores are as wide as a multiple of this."""

_FOLD = 32
"""Scores of which only the largest is looked at first; divides STRIDE."""

KEYS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
HALF = {torch.bfloat16: 2.0**-9, torch.float32: 0.0}
"""Half the distance to the next number, of numbers from 0.5 to 1: a bf16 product is rounded once it is summed."""


class ThresholdFilter:
    """Raises a floor under each query's scores while blocks go by.

    The k-th best rough score so far, t, was rounded from t - h at least, and k items have true scores of t - h - e or
    more, with e what a rough score may be off. An item with a lower true score is none of the k best; one with a rough
    score below t - h - 2e, rounded down, has one. That is the floor; what reaches it is kept.

    Scores are compared as integers: the bits of non-negative floats are in order, and integers are compared twice to
    thirty times faster than bf16 numbers. Where a floor is negative, the bits of negative numbers are turned first.
    """

    def __init__(self, off: torch.Tensor, k: int, *, dtype: torch.dtype, most: int) -> None:
        """Start with floors that everything reaches but -inf.

        Args:
            off: (b,) float64, what a rough score of the query may be off.
            k: items wanted.
            dtype: of the scores.
            most: positions kept of a query; one that needs more is given up.
        """
        self.off, self.k, self.dtype, self.most = off, k, dtype, most
        self.b, device = len(off), off.device
        self._patience = self.b * (4 * k + 64)  # held before floors are raised
        self.floor = torch.full((self.b,), min_key(dtype), dtype=KEYS[dtype], device=device)
        self.overflowed = torch.zeros(self.b, dtype=torch.bool, device=device)
        self._signed = True
        self._held, self._full = 0, self._patience
        self._user = [torch.empty(0, dtype=torch.int64, device=device)]
        self._place = [torch.empty(0, dtype=torch.int64, device=device)]
        self._key = [torch.empty(0, dtype=KEYS[dtype], device=device)]

    @staticmethod
    def block(k: int, device: torch.device) -> tuple[int, int]:
        """Queries and items scored at once: wide enough that the peaks of the first block tell the k best apart."""
        height, width = (512, 4096) if device.type == "cpu" else (8192, 32_768)
        wide = max(width, 2 * _FOLD * k)
        return max(1, height * width // wide), wide

    def add(self, scores: torch.Tensor, first: int, *, who: torch.Tensor | None = None) -> None:
        """Look at a block of scores.

        Args:
            scores: (b, width), width a multiple of STRIDE.
            first: position of the first column; at 0 of all queries floors are laid.
            who: (m,) ascending, the queries the rows are of, when not all of them: then scores are (m, width).
        """
        b, width = scores.shape
        keys, apart = scores.view(KEYS[self.dtype]), width // _FOLD
        if first == 0 and who is None:
            self._raise(initial_thresholds(scores, self.off, self.k))
        if self._signed:
            keys = sortable_bits(keys)
        peaks = keys.view(b, _FOLD, apart).amax(dim=1)
        floor = self.floor if who is None else self.floor[who]
        user, column = (peaks >= floor[:, None]).nonzero(as_tuple=True)
        steps = torch.arange(0, width, apart, device=scores.device)
        near = keys.flatten().take((user * width + column)[:, None] + steps)
        hit, step = (near >= floor[user][:, None]).nonzero(as_tuple=True)
        self._user.append(user[hit] if who is None else who[user[hit]])
        self._place.append(column[hit] + step * apart + first)
        self._key.append(near[hit, step])
        self._held += len(hit)
        if self._held > self._full:
            self._tighten()

    def candidates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and positions that hold all of the k best, sorted by query: (m,) each."""
        self._tighten()
        return self._user[0], self._place[0]

    def _raise(self, floor: torch.Tensor) -> None:
        self.floor = torch.maximum(self.floor, floor)
        self._signed = bool((self.floor < 0).any())

    def _tighten(self) -> None:
        """Raise the floors by all that is held, and drop what is below."""
        user, place, key = torch.cat(self._user), torch.cat(self._place), torch.cat(self._key)
        user, order = torch.sort(user, stable=True)
        place, key = place[order], key[order]
        count = torch.bincount(user, minlength=self.b)
        rank = torch.arange(len(user), device=user.device) - (count.cumsum(0) - count)[user]
        width = min(int(count.max()), 4 * self.most)
        if width >= self.k:
            table = torch.full((self.b, width), min_key(self.dtype), dtype=key.dtype, device=key.device)
            inside = rank < width  # the k-th best of some is a floor too, only a lower one
            table[user[inside], rank[inside]] = key[inside]
            floor = _lifted(_kth(table, self.k), self.off, self.dtype)
            self._raise(torch.where(count >= self.k, floor, self.floor))
        kept = key >= self.floor[user]
        over = torch.bincount(user[kept], minlength=self.b) > self.most
        if bool(over.any()):
            self.overflowed |= over
            self.floor[over] = torch.iinfo(self.floor.dtype).max
            kept &= ~over[user]
        self._user, self._place, self._key = [user[kept]], [place[kept]], [key[kept]]
        self._held = len(self._user[0])
        self._full = self._held + self._patience


def sortable_bits(keys: torch.Tensor) -> torch.Tensor:
    """Bits of floats as integers in the order of the floats, and back again."""
    kind = torch.iinfo(keys.dtype)
    return keys ^ ((keys >> (kind.bits - 1)) & kind.max)


def min_key(dtype: torch.dtype) -> int:
    """The key of the lowest finite number."""
    return int(sortable_bits(torch.tensor([-torch.inf], dtype=dtype).view(KEYS[dtype]))) + 1


def initial_thresholds(scores: torch.Tensor, off: torch.Tensor, k: int) -> torch.Tensor:
    """Floors by the first block of scores (b, width): (b,) keys.

    Of every few scores the largest is taken; the k-th best of these peaks is a floor as good as the k-th best of all.
    """
    b, width = scores.shape
    keys = sortable_bits(scores.view(KEYS[scores.dtype]))
    if width // _FOLD >= k:
        keys = keys.view(b, _FOLD, width // _FOLD).amax(dim=1)
    if width < k:
        return torch.full((b,), min_key(scores.dtype), dtype=keys.dtype, device=keys.device)
    return _lifted(_kth(keys, k), off, scores.dtype)


def _lifted(kth: torch.Tensor, off: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The floors that k-th best scores allow: (b,) keys."""
    best = sortable_bits(kth.clamp(min=min_key(dtype))).view(dtype).double()
    half = torch.ldexp(torch.full_like(best, HALF[dtype]), torch.frexp(best)[1])
    low = best - half - 2 * off
    rounded = low.to(dtype)
    key = sortable_bits(rounded.view(KEYS[dtype])) - (rounded.double() > low).to(KEYS[dtype])
    key = torch.where(key == 0, -1, key)  # minus zero is as good as zero
    return key.clamp(min=min_key(dtype)).to(KEYS[dtype])


def _kth(keys: torch.Tensor, k: int) -> torch.Tensor:
    """The k-th largest of each row."""
    if keys.device.type != "cpu":
        return keys.topk(k, dim=1).values[:, -1].contiguous()
    at = keys.shape[1] - k  # NumPy's partition of short rows takes a tenth of the time of torch.topk
    return torch.from_numpy(np.ascontiguousarray(np.partition(keys.numpy(), at, axis=1)[:, at]))
