"""Pictures read by a network trained from scratch or brought along, augmented as whole batches.

In: (b, 3, S, S) uint8 and which products have one. Out: five tokens a picture: its four quarters and the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config import EncoderSettings
from recsys.data.catalogue import Images
from recsys.encoder.backbones.image_scratch import ConvNet, VisionTransformer
from recsys.encoder.backbones.image_tower import ImageTower
from recsys.encoder.modalities import Inputs, Tokens
from recsys.encoder.modalities.image_descriptors import RidgeWordPredictor


def augment(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Mirror, shift, zoom and relight each picture a little: (b, 3, S, S) float 0..1 -> the same.

    Hue stays: the colour is what the product is.
    """
    return apply_augmentation(pixels, sample_augmentation(len(pixels), g))


def sample_augmentation(b: int, g: torch.Generator) -> Tensor:
    """How each of b pictures is to be changed: (b, 8), the 2 x 3 numbers of an affine map, light, contrast."""

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=g)

    zoom, ratio = draw(0.88, 1.06), draw(0.95, 1.05)
    mirror = torch.where(torch.rand(b, generator=g) < 0.5, -1.0, 1.0)
    moves = torch.zeros(b, 8)
    moves[:, 0], moves[:, 4] = zoom * ratio * mirror, zoom / ratio
    moves[:, 2], moves[:, 5] = draw(-0.08, 0.08), draw(-0.08, 0.08)
    moves[:, 6], moves[:, 7] = draw(-0.08, 0.08), draw(0.85, 1.15)
    return moves


def apply_augmentation(pixels: Tensor, moves: Tensor) -> Tensor:
    """Pictures (b, 3, S, S) changed as drawn."""
    moves = moves.to(pixels.device)
    grid = F.affine_grid(moves[:, :6].view(-1, 2, 3), list(pixels.shape), align_corners=False)
    seen = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    light, contrast = moves[:, 6], moves[:, 7]
    return (seen - 0.5) * contrast[:, None, None, None] + 0.5 + light[:, None, None, None]


class ImageEncoder(nn.Module):
    """Reads pictures; products without one are skipped, not filled with zeros."""

    name = "image"

    def __init__(self, settings: EncoderSettings, state: dict[str, Any] | None = None) -> None:
        """Build the tower of the settings, or that of a saved model by its state."""
        super().__init__()
        self.tower = create_image_tower(settings, state)
        self.out = nn.Linear(self.tower.channels, settings.width)
        self.norm = nn.LayerNorm(settings.width)
        self.places = nn.Parameter(torch.zeros(5, settings.width))
        self.first_guess = RidgeWordPredictor(settings.dim)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def read(pictures: Images, rows: npt.NDArray[np.integer]) -> Inputs:
        """Pictures of some products: pixels (m, 3, S, S) uint8, has (m,) bool."""
        return {"pixels": torch.from_numpy(pictures.take(rows)), "has": torch.from_numpy(pictures.present[rows])}

    def present(self, x: Inputs) -> Tensor:
        """Which products have a picture: (b,) bool."""
        return x["has"]

    def drawn(self, x: Inputs, g: torch.Generator) -> Inputs:
        """The same with how each picture is to be changed, so that any part of the products can be read by itself."""
        has = x["has"]
        moves = torch.zeros(len(has), 8, device=has.device)
        moves[has] = sample_augmentation(int(has.sum()), g).to(has.device)
        return {**x, "moves": moves}

    def forward(self, x: Inputs, g: torch.Generator | None = None) -> Tokens:
        """Five tokens of each picture: (b, 5, w); `g` given = augment, `moves` in `x` = as drawn before."""
        has = x["has"]
        width = self.places.shape[1]
        if not bool(has.any()):
            return Tokens(torch.zeros(len(has), 5, width, device=has.device), has[:, None].expand(-1, 5))
        pixels = x["pixels"][has].float() / 255
        if "moves" in x:
            pixels = apply_augmentation(pixels, x["moves"][has])
        elif g is not None:
            pixels = augment(pixels, g)
        h, whole = self.tower(pixels)
        quarters = F.adaptive_avg_pool2d(h, 2).flatten(2).transpose(1, 2)
        whole = whole if whole is not None else h.mean((2, 3))
        tokens = self.norm(self.out(torch.cat([quarters, whole[:, None]], 1))).float() + self.places
        every = torch.zeros(len(has), 5, width, device=has.device).index_copy(0, has.nonzero()[:, 0], tokens)
        return Tokens(every, has[:, None].expand(-1, 5))

    def glance(self, x: Inputs) -> Tensor:
        """The first guess of each picture's words: (b, d), zeros without a picture."""
        has, dim = x["has"], self.first_guess.out_features
        guess: Tensor = x["guess"] if "guess" in x else torch.full((len(has), dim), torch.nan, device=has.device)
        unknown = has & guess.isnan().any(1)
        if bool(unknown.any()):
            looked = self.first_guess(x["pixels"][unknown]).float()
            guess = guess.index_copy(0, unknown.nonzero()[:, 0], looked)
        return guess.masked_fill(~has[:, None], 0.0)


def create_image_tower(settings: EncoderSettings, state: dict[str, Any] | None = None) -> ImageTower:
    """The tower of `settings.image`, or the one of a saved model by its `state()` with its weights not set yet.

    Raises:
        ConfigError, ModelFolderError: there is none of that name, or its weights are not there or not whole.
    """
    kind = state["kind"] if state is not None else settings.image
    if kind == "own":
        return ConvNet()
    if kind == "vit":
        return VisionTransformer(settings)
    from recsys.encoder.backbones import image_pretrained as vision

    return vision.load_image_backbone(settings) if state is None else vision.rebuild_image_backbone(state, settings)
