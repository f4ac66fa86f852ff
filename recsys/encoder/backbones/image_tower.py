"""Interface between the image encoder and its network.

In: (b, 3, S, S) float, 0..1. Out: the protocol of an image tower and the type of its output.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

TowerOutput = tuple[Tensor, Tensor | None]
"""Feature map, (b, c, h, w), and a vector of the whole image, (b, c), if the network has one better than the mean."""


class ImageTower(Protocol):
    """A network that maps images to feature maps.

    Attributes:
        channels: c, channels of the feature map.
    """

    channels: int

    def __call__(self, pixels: Tensor) -> TowerOutput:
        """Compute the feature map of each image, and a vector of the whole image or None."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the architecture without the weights as a JSON-compatible dict."""
        ...


def resize(pixels: Tensor, side: int) -> Tensor:
    """Resize images, with antialiasing when they shrink: (b, 3, S, S) -> (b, 3, side, side)."""
    if pixels.shape[2] == side == pixels.shape[3]:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
