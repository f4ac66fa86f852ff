"""The transformer block all parts of the encoder are made of, and dropout from a generator.

In: (b, L, w) sequences, a mask of what may be looked at. Out: (b, L, w).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(x: Tensor, rate: float, g: torch.Generator | None) -> Tensor:
    """Drop numbers of `x` at random with the generator `g`; without one (outside training) nothing is dropped."""
    if g is None or rate == 0:
        return x
    keep = torch.rand(x.shape, generator=g, device=x.device) >= rate
    return x * keep.to(x.dtype) / (1 - rate)


class Block(nn.Module):
    """Attention and a two-layer network, both added to what comes in, normalised before (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, *, rate: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate
        self.norm_in = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mid = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, g: torch.Generator | None = None) -> Tensor:
        """Let every token look at the others.

        Args:
            x: (b, L, w).
            mask: True, or a number to add, where a token may be looked at; broadcast to (b, heads, L, L).
            g: generator of the dropout, none outside training.

        Returns:
            (b, L, w).
        """
        b, length, width = x.shape
        qkv = self.qkv(self.norm_in(x)).view(b, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.to(q.dtype)
        )
        x = x + dropout(self.out(seen.transpose(1, 2).reshape(b, length, width)), self.rate, g)
        return x + dropout(self.down(F.gelu(self.up(self.norm_mid(x)))), self.rate, g)
