"""Picture towers trained from scratch: a small residual convolutional network or a small transformer over patches.

In: (b, 3, S, S) float, 0..1. Out: a map of each picture (b, c, h, w), and what stands for the whole (b, c) if the tower
has something better than the map's mean.
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
_PATCH: Final = 8


class _Residual(nn.Module):
    """Two 3x3 convolutions added to what comes in (He et al. 2016); halves the side when `inner` > `outer`."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inner, outer, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.first = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(outer)
        self.second = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.shrink(x)))
        return F.relu(x + self.norm_second(self.second(F.relu(self.norm_first(self.first(x))))))


class ConvNet(nn.Module):
    """A small residual network; reads pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = _CHANNELS
        self.channels = rest[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.stages = nn.ModuleList(_Residual(a, b) for a, b in zip((first, *rest[:-1]), rest, strict=True))

    def forward(self, pixels: Tensor) -> TowerOutput:
        h = self.stem(((pixels - 0.7) / 0.3).contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            h = stage(h)
        return h, None

    def state(self) -> dict[str, Any]:
        return {"kind": "own"}


class VisionTransformer(nn.Module):
    """A transformer over patches of 8 x 8 pixels (ViT, Dosovitskiy et al. 2021); reads pictures of any size.

    Places are fixed, and no token of its own stands for the whole (Beyer et al. 2022).
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.channels = settings.width
        self.cut = nn.Conv2d(3, settings.width, _PATCH, stride=_PATCH)
        self.blocks = nn.ModuleList(
            TransformerBlock(settings.width, settings.heads) for _ in range(settings.image_layers)
        )
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, pixels: Tensor) -> TowerOutput:
        side = -(-pixels.shape[2] // _PATCH) * _PATCH
        x = self.cut((resize(pixels, side) - 0.7) / 0.3)
        h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + _places(h, w, self.channels).to(x.device)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).unflatten(2, (h, w)), None

    def state(self) -> dict[str, Any]:
        return {"kind": "vit"}


def _places(h: int, w: int, width: int) -> Tensor:
    """Sines and cosines of row and column: (h * w, width)."""
    quarter = -(-width // 4)
    pace = 10_000 ** (-torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    angles = [place.flatten()[:, None] * pace for place in (rows, columns)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], 1)[:, :width]
