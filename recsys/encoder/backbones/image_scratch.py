"""Image towers trained from scratch: a small residual network or a small vision transformer.

In: (b, 3, S, S) float, 0..1. Out: a feature map, (b, c, h, w), and None: its mean represents the whole image.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.encoder.backbones.image_tower import TowerOutput, resize
from recsys.encoder.transformer import TransformerBlock

_CHANNELS: Final = (24, 48, 96, 192)
_PATCH_SIZE: Final = 8


class _Residual(nn.Module):
    """A strided convolution, then a residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.first = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(outer)
        self.second = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the side: (b, inner, h, w) -> (b, outer, h / 2, w / 2), rounded up."""
        x = F.relu(self.norm(self.shrink(x)))
        return F.relu(x + self.norm_second(self.second(F.relu(self.norm_first(self.first(x))))))


class ConvNet(nn.Module):
    """A small residual network for images of any size."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = _CHANNELS
        self.channels = rest[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.stages = nn.ModuleList(_Residual(a, b) for a, b in zip((first, *rest[:-1]), rest, strict=True))

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Compute the feature map of images: (b, 3, S, S) -> (b, c, h, w) and None."""
        h = self.stem(((pixels - 0.7) / 0.3).contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            h = stage(h)
        return h, None

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return {"kind": "own"}


class VisionTransformer(nn.Module):
    """A transformer over patches of 8 x 8 pixels (ViT, Dosovitskiy et al. 2021) for images of any size.

    Position embeddings are fixed, and there is no class token (Beyer et al. 2022).
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.channels = settings.width
        self.cut = nn.Conv2d(3, settings.width, _PATCH_SIZE, stride=_PATCH_SIZE)
        self.blocks = nn.ModuleList(
            TransformerBlock(settings.width, settings.heads) for _ in range(settings.image_layers)
        )
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Compute the feature map of images: (b, 3, S, S) -> (b, c, h, w) and None."""
        side = -(-pixels.shape[2] // _PATCH_SIZE) * _PATCH_SIZE
        x = self.cut((resize(pixels, side) - 0.7) / 0.3)
        h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + _position_embedding(h, w, self.channels).to(x.device)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).unflatten(2, (h, w)), None

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        return {"kind": "vit"}


def _position_embedding(h: int, w: int, width: int) -> Tensor:
    """Sinusoidal embedding of row and column: (h * w, width)."""
    quarter = -(-width // 4)
    frequencies = 10_000 ** (-torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    angles = [index.flatten()[:, None] * frequencies for index in (rows, columns)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1)[:, :width]
