"""Low-precision scoring: round items and queries to a fast number format and bound the error.

In: items (n, d), queries (b, d), float32. Out: rounded numbers and, for each query, a bound on the error of its scores.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from recsys.types import FloatArray, IntArray

_UNSCALED_EXPONENT = 20
"""Items whose largest number lies between 2^-20 and 2^20 are not scaled; others are scaled to about 1."""

_UNDERFLOW = 2.0**-62
"""Magnitude below which a processor may flush a number or its square to zero."""

_FLUSH_ERROR = 2.0**-120
"""Upper bound on the loss of a product, per number, where results below 2^-126 are flushed to zero."""

_CHUNK_ROWS = 16_384
"""Rows converted at a time."""


def supports_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 numbers in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    return " avx512_bf16" in flags or " amx_bf16" in flags


class LowPrecisionItems:
    """Items in search order, in one number format.

    With v' and q' the rounded vectors, |q'v' - qv| <= |q' - q| |v'| + |q| |v' - v| (Cauchy and Schwarz), and a sum of
    d products in float32, in whatever order, is off by at most d 2^-23 |q'| |v'|; 8 more of these steps allow for
    the rounding of exact scores to float32. The norms of the differences are measured, not estimated. The rounding of
    the approximate score itself is handled in `threshold`.
    """

    def __init__(
        self,
        items: FloatArray,
        order: IntArray,
        bounds: IntArray,
        *,
        dtype: torch.dtype,
        device: torch.device,
        cache_blocks: bool,
    ) -> None:
        """Measure the items and, with `cache_blocks`, convert them once.

        Args:
            items: (n, d).
            order: (m,) rows in search order.
            bounds: (blocks + 1,) first position of each block, and the end.
            dtype: torch.bfloat16 or torch.float32.
            device: device of the products.
            cache_blocks: convert the items once instead of on each access; costs m * d numbers of the format.
        """
        self.items, self.order, self.bounds, self.dtype, self.device = items, order, bounds, dtype, device
        parts = range(0, len(items), _CHUNK_ROWS)
        largest = max((float(np.abs(items[start : start + _CHUNK_ROWS]).max()) for start in parts), default=0.0)
        self.zero = largest == 0
        exponent = int(np.frexp(largest)[1])
        self.exponent = exponent if abs(exponent) > _UNSCALED_EXPONENT else 0
        self.norm = self.error = 0.0
        self._cached_blocks: list[torch.Tensor] = []
        for i in range(len(bounds) - 1):
            scaled = self._scale_block(i)
            rounded = scaled.to(dtype)
            if len(scaled):
                self.norm = max(self.norm, float(_upper_norms(rounded.float()).max()))
                self.error = max(self.error, float(_upper_norms(rounded.float() - scaled).max()))
            if cache_blocks:
                self._cached_blocks.append(rounded.T.contiguous())

    @cached_property
    def positions(self) -> IntArray:
        """Position of each item in the search order: (n,), -1 = not searched."""
        out = np.full(len(self.items), -1, np.int64)
        out[self.order] = np.arange(len(self.order))
        return out

    def block(self, i: int) -> torch.Tensor:
        """Return the items of block `i` as columns, the layout a matrix product reads fastest: (d, items)."""
        return self._cached_blocks[i] if self._cached_blocks else self._scale_block(i).to(self.dtype).T

    def convert_queries(self, queries: FloatArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scaled queries in the number format (b, d) and their error bounds (b,) float64.

        Each query is scaled by a power of two to about 1.
        """
        double = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device).double()
        _, exponent = torch.frexp(double.abs().amax(dim=1, keepdim=True))
        scaled = torch.ldexp(double, -exponent)
        rounded = scaled.to(self.dtype)
        norm, rounding_error = scaled.norm(dim=1), (rounded.double() - scaled).norm(dim=1)
        d = queries.shape[1]
        summation_error = (d + 8) * 2.0**-23 * (norm + rounding_error) * self.norm
        # Scores that differ by less than the smallest float32 step are equal once they are rounded.
        step = torch.ldexp(torch.ones_like(norm), -149 - self.exponent - exponent[:, 0])
        bound = rounding_error * self.norm + norm * self.error + summation_error + d * _FLUSH_ERROR + step
        return rounded, bound * (1 + 2.0**-20)

    def _scale_block(self, i: int) -> torch.Tensor:
        """Return the rows of a block in float32, scaled by a power of two to a maximum of about 1."""
        rows = torch.from_numpy(self.items[self.order[self.bounds[i] : self.bounds[i + 1]]]).to(self.device)
        return rows if not self.exponent else torch.ldexp(rows.double(), torch.tensor(-self.exponent)).float()


def _upper_norms(x: torch.Tensor) -> torch.Tensor:
    """Return the lengths of float32 rows, rounded up."""
    d = x.shape[1]
    upper_bound: torch.Tensor = x.square().sum(dim=1).sqrt().double() * (1 + (d + 8) * 2.0**-23) + d**0.5 * _UNDERFLOW
    return upper_bound
