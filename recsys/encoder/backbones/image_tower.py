"""What the image modality asks of a network that reads images.

In: (b, 3, S, S) float, 0..1. Out: the protocol of an image tower and the type of its output.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

TowerOutput = tuple[Tensor, Tensor | None]


class ImageTower(Protocol):
    """What a picture field asks of what sees its pictures.

    Attributes:
        channels: c, numbers at each place of the map.
    """

    channels: int

    def __call__(self, pixels: Tensor) -> TowerOutput:
        """Map of each picture, and what stands for the whole."""
        ...

    def state(self) -> dict[str, Any]:
        """What the tower is, but for its weights; fit for JSON."""
        ...


def resize(pixels: Tensor, side: int) -> Tensor:
    """Pictures of another side, smoothed when they shrink: (b, 3, S, S) -> (b, 3, side, side)."""
    if pixels.shape[2] == side == pixels.shape[3]:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
