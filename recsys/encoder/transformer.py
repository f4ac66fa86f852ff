"""The transformer block of all encoders, and dropout drawn from an explicit generator.

In: (b, L, w) sequences and an attention mask. Out: (b, L, w).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEEDFORWARD_FACTOR = 2


def dropout(x: Tensor, rate: float, g: torch.Generator | None) -> Tensor:
    """Apply dropout to `x` with the generator `g`; None (outside training) returns `x` unchanged.

    The rate is rounded to a multiple of 1/65536: sixteen random bits decide on each number, and they are drawn much
    faster than a uniform number.
    """
    if g is None or rate == 0:
        return x
    seed = int(torch.randint(2**62, (), generator=g))
    size = x.numel()
    bits = np.random.SFC64(seed).random_raw(-(-size // 4)).view(np.uint16)[:size]
    threshold = round(rate * 2**16)
    keep_mask = torch.from_numpy(bits >= threshold).view(x.shape).to(x.device)
    return x * keep_mask.to(x.dtype).mul_(2**16 / (2**16 - threshold))


class TransformerBlock(nn.Module):
    """A pre-norm block (Xiong et al. 2020): attention and a two-layer network, both residual."""

    def __init__(self, width: int, heads: int, *, rate: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate
        self.norm_in = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mid = nn.LayerNorm(width)
        self.up = nn.Linear(width, _FEEDFORWARD_FACTOR * width)
        self.down = nn.Linear(_FEEDFORWARD_FACTOR * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, g: torch.Generator | None = None) -> Tensor:
        """Apply attention and the feed-forward network.

        Args:
            x: (b, L, w).
            mask: bool, True = may be attended to, or float, added to the scores; broadcast to (b, heads, L, L).
            g: generator for dropout, None outside training.

        Returns:
            (b, L, w).
        """
        b, length, width = x.shape
        heads = (b, length, self.heads, width // self.heads)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.qkv(self.norm_in(x)).chunk(3, 2))
        attended = _attend(q, k, v, mask)
        x = x + dropout(self.out(attended.transpose(1, 2).reshape(b, length, width)), self.rate, g)
        return x + dropout(self.down(F.relu(self.up(self.norm_mid(x)))), self.rate, g)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention: (b, heads, L, w / heads) -> the same."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    if q.dtype != torch.bfloat16 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On CPUs the fused bf16 kernel of torch takes about twice as long as plain matrix products on sequences this short.
    scores: Tensor = (q * float(q.shape[-1] ** -0.5)) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ v
