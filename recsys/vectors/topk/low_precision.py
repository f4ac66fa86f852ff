"""Rough scores: items and queries in a format the processor multiplies fast, and how far such a score can be off.

In: items (n, d), queries (b, d), float32. Out: rounded numbers and, for each query, a bound on the error.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from recsys.types import FloatArray, IntArray

_SANE = 20
"""Items whose largest number lies between 2^-20 and 2^20 stay as they are; others are brought to 1."""

_LOST = 2.0**-62
"""A number whose square, or the number itself, a processor may take for zero."""

_FLUSHED = 2.0**-120
"""More than a product can lose, per number, where results below 2^-126 become zero."""

_CONVERTED = 16_384
"""Rows converted at a time."""


def supports_bf16(device: torch.device) -> bool:
    """Does the device multiply bf16 numbers in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return " avx512_bf16" in flags or " amx_bf16" in flags


class LowPrecisionItems:
    """Items in the order they are looked at, in one number format.

    With v' and q' the rounded vectors, |q'v' - qv| <= |q' - q| |v'| + |q| |v' - v| (Cauchy and Schwarz), and a sum of
    d products in float32, in whatever order, is off by at most d 2^-23 |q'| |v'|; 8 more of these steps make room for
    the rounding of true scores to float32. The norms of the differences are measured, not guessed. How a rough score
    is rounded is the business of `topk_sieve`.
    """

    def __init__(
        self,
        items: FloatArray,
        order: IntArray,
        bounds: IntArray,
        *,
        dtype: torch.dtype,
        device: torch.device,
        kept: bool,
    ) -> None:
        """Measure the items and, when they are to be kept, convert them.

        Args:
            items: (n, d).
            order: (m,) rows in the order they are looked at.
            bounds: (blocks + 1,) where each block of them begins, and the end.
            dtype: torch.bfloat16 or torch.float32.
            device: where the products are taken.
            kept: convert them once, and not whenever they are asked for: costs m * d numbers of the format.
        """
        self.items, self.order, self.bounds, self.dtype, self.device = items, order, bounds, dtype, device
        parts = range(0, len(items), _CONVERTED)
        largest = max((float(np.abs(items[start : start + _CONVERTED]).max()) for start in parts), default=0.0)
        self.zero = largest == 0
        exponent = int(np.frexp(largest)[1])
        self.exponent = exponent if abs(exponent) > _SANE else 0
        self.norm = self.error = 0.0
        self._kept: list[torch.Tensor] = []
        for at in range(len(bounds) - 1):
            plain = self._scaled(at)
            rounded = plain.to(dtype)
            if len(plain):
                self.norm = max(self.norm, float(_norms(rounded.float()).max()))
                self.error = max(self.error, float(_norms(rounded.float() - plain).max()))
            if kept:
                self._kept.append(rounded.T.contiguous())

    @cached_property
    def places(self) -> IntArray:
        """Where each item stands in the order: (n,), -1 = nowhere."""
        out = np.full(len(self.items), -1, np.int64)
        out[self.order] = np.arange(len(self.order))
        return out

    def block(self, at: int) -> torch.Tensor:
        """The items of a block as columns, which is how a product reads them fastest: (d, items)."""
        return self._kept[at] if self._kept else self._scaled(at).to(self.dtype).T

    def queries(self, queries: FloatArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries as they are multiplied (b, d), each scaled to about 1, and what a score may be off: (b,) float64."""
        wide = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device).double()
        _, exponent = torch.frexp(wide.abs().amax(dim=1, keepdim=True))
        plain = torch.ldexp(wide, -exponent)
        rounded = plain.to(self.dtype)
        length, off = plain.norm(dim=1), (rounded.double() - plain).norm(dim=1)
        d = queries.shape[1]
        summed = (d + 8) * 2.0**-23 * (length + off) * self.norm
        # Scores that are told apart only beyond float32's smallest step are equal when they are written down.
        step = torch.ldexp(torch.ones_like(length), -149 - self.exponent - exponent[:, 0])
        bound = off * self.norm + length * self.error + summed + d * _FLUSHED + step
        return rounded, bound * (1 + 2.0**-20)

    def _scaled(self, at: int) -> torch.Tensor:
        plain = torch.from_numpy(self.items[self.order[self.bounds[at] : self.bounds[at + 1]]]).to(self.device)
        return plain if not self.exponent else torch.ldexp(plain.double(), torch.tensor(-self.exponent)).float()


def _norms(x: torch.Tensor) -> torch.Tensor:
    """Lengths of float32 rows, rounded up."""
    d = x.shape[1]
    above: torch.Tensor = x.square().sum(dim=1).sqrt().double() * (1 + (d + 8) * 2.0**-23) + d**0.5 * _LOST
    return above
