"""The transformer block all parts of the encoder are made of, and dropout from a generator.

In: (b, L, w) sequences, a mask of what may be looked at. Out: (b, L, w).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDER = 2


def dropout(x: Tensor, rate: float, g: torch.Generator | None) -> Tensor:
    """Drop numbers of `x` at random with the generator `g`; without one (outside training) nothing is dropped.

    The rate is rounded to whole 65536ths: sixteen random bits decide on a number, drawn much faster than a uniform one.
    """
    if g is None or rate == 0:
        return x
    seed = int(torch.randint(2**62, (), generator=g))
    size = x.numel()
    bits = np.random.SFC64(seed).random_raw(-(-size // 4)).view(np.uint16)[:size]
    dropped = round(rate * 2**16)
    kept = torch.from_numpy(bits >= dropped).view(x.shape).to(x.device)
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class TransformerBlock(nn.Module):
    """Attention and a two-layer network, both added to what comes in, normalised before (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, *, rate: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate
        self.norm_in = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mid = nn.LayerNorm(width)
        self.up = nn.Linear(width, _WIDER * width)
        self.down = nn.Linear(_WIDER * width, width)

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
        heads = (b, length, self.heads, width // self.heads)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.qkv(self.norm_in(x)).chunk(3, 2))
        seen = _attend(q, k, v, mask)
        x = x + dropout(self.out(seen.transpose(1, 2).reshape(b, length, width)), self.rate, g)
        return x + dropout(self.down(F.relu(self.up(self.norm_mid(x)))), self.rate, g)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention: (b, heads, L, w / heads) -> the same."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    if q.dtype != torch.bfloat16 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On processors torch's fused bf16 kernel takes about twice as long as plain products for sequences this short.
    scores: Tensor = (q * float(q.shape[-1] ** -0.5)) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ v
