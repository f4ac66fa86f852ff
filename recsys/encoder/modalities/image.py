"""Image encoder: a network trained from scratch or pretrained, with augmentation of whole batches.

In: (b, 3, S, S) uint8 and a mask of the products with an image. Out: five tokens per image: its quarters and the whole.
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
    """Randomly flip, shift, zoom and relight each image: (b, 3, S, S) float 0..1 -> the same shape.

    Hue does not change: colour is a property of the product.
    """
    return apply_augmentation(pixels, sample_augmentation(len(pixels), g))


def sample_augmentation(b: int, g: torch.Generator) -> Tensor:
    """Sample augmentation parameters: (b, 8), the 2 x 3 numbers of an affine map, brightness, contrast."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=g)

    zoom, ratio = uniform(0.88, 1.06), uniform(0.95, 1.05)
    mirror = torch.where(torch.rand(b, generator=g) < 0.5, -1.0, 1.0)
    parameters = torch.zeros(b, 8)
    parameters[:, 0], parameters[:, 4] = zoom * ratio * mirror, zoom / ratio
    parameters[:, 2], parameters[:, 5] = uniform(-0.08, 0.08), uniform(-0.08, 0.08)
    parameters[:, 6], parameters[:, 7] = uniform(-0.08, 0.08), uniform(0.85, 1.15)
    return parameters


def apply_augmentation(pixels: Tensor, parameters: Tensor) -> Tensor:
    """Apply sampled augmentation parameters, (b, 8), to images, (b, 3, S, S)."""
    parameters = parameters.to(pixels.device)
    grid = F.affine_grid(parameters[:, :6].view(-1, 2, 3), list(pixels.shape), align_corners=False)
    warped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    brightness, contrast = parameters[:, 6], parameters[:, 7]
    return (warped - 0.5) * contrast[:, None, None, None] + 0.5 + brightness[:, None, None, None]


class ImageEncoder(nn.Module):
    """Encodes images; products without one are skipped by the tower, not fed as zeros."""

    name = "image"

    def __init__(self, settings: EncoderSettings, state: dict[str, Any] | None = None) -> None:
        """Build the tower of the settings, or the tower of a saved model from its state."""
        super().__init__()
        self.tower = create_image_tower(settings, state)
        self.out = nn.Linear(self.tower.channels, settings.width)
        self.norm = nn.LayerNorm(settings.width)
        self.places = nn.Parameter(torch.zeros(5, settings.width))
        self.first_guess = RidgeWordPredictor(settings.dim)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def read(images: Images, rows: npt.NDArray[np.integer]) -> Inputs:
        """Read the images of some products: pixels (m, 3, S, S) uint8, has (m,) bool."""
        return {"pixels": torch.from_numpy(images.take(rows)), "has": torch.from_numpy(images.present[rows])}

    def present(self, x: Inputs) -> Tensor:
        """Return a mask of the products with an image: (b,) bool."""
        return x["has"]

    def with_augmentation(self, x: Inputs, g: torch.Generator) -> Inputs:
        """Add sampled augmentation parameters to the inputs, so that chunks of products can be read alone."""
        has = x["has"]
        parameters = torch.zeros(len(has), 8, device=has.device)
        parameters[has] = sample_augmentation(int(has.sum()), g).to(has.device)
        return {**x, "moves": parameters}

    def forward(self, x: Inputs, g: torch.Generator | None = None) -> Tokens:
        """Encode each image as five tokens: (b, 5, w).

        Images are augmented by the parameters `moves` in `x`, else by newly sampled ones if `g` is given.
        """
        has = x["has"]
        width = self.places.shape[1]
        if not bool(has.any()):
            return Tokens(torch.zeros(len(has), 5, width, device=has.device), has[:, None].expand(-1, 5))
        pixels = x["pixels"][has].float() / 255
        if "moves" in x:
            pixels = apply_augmentation(pixels, x["moves"][has])
        elif g is not None:
            pixels = augment(pixels, g)
        feature_map, image_vector = self.tower(pixels)
        quarters = F.adaptive_avg_pool2d(feature_map, 2).flatten(2).transpose(1, 2)
        image_vector = image_vector if image_vector is not None else feature_map.mean((2, 3))
        tokens = self.norm(self.out(torch.cat([quarters, image_vector[:, None]], 1))).float() + self.places
        all_tokens = torch.zeros(len(has), 5, width, device=has.device).index_copy(0, has.nonzero()[:, 0], tokens)
        return Tokens(all_tokens, has[:, None].expand(-1, 5))

    def predict_words(self, x: Inputs) -> Tensor:
        """Predict the word vector of each image: (b, d), zeros without an image."""
        has, dim = x["has"], self.first_guess.out_features
        prediction: Tensor = x["guess"] if "guess" in x else torch.full((len(has), dim), torch.nan, device=has.device)
        missing = has & prediction.isnan().any(1)
        if bool(missing.any()):
            predicted = self.first_guess(x["pixels"][missing]).float()
            prediction = prediction.index_copy(0, missing.nonzero()[:, 0], predicted)
        return prediction.masked_fill(~has[:, None], 0.0)


def create_image_tower(settings: EncoderSettings, state: dict[str, Any] | None = None) -> ImageTower:
    """Build the tower of `settings.image`, or of a saved model from its `state()`, without its weights.

    Raises:
        ConfigError, ModelFolderError: no network has that name, or its weights are missing or incomplete.
    """
    kind = state["kind"] if state is not None else settings.image
    if kind == "own":
        return ConvNet()
    if kind == "vit":
        return VisionTransformer(settings)
    from recsys.encoder.backbones.image_pretrained import load_image_backbone, rebuild_image_backbone

    return load_image_backbone(settings) if state is None else rebuild_image_backbone(state, settings)
