"""Masked image modelling: predict masked patches from the visible ones, the text and the attributes.

In: products. Out: mean squared error of the masked patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import Tokens
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.transformer import TransformerBlock

GRID_SIZE: Final = 8
"""Patches per side of an image, independent of its size in pixels."""
N_MASKED: Final = 40
"""Masked patches of the 64; SimMIM masks 60 %, MAE 75 %."""
_PATCH_SIZE: Final = 4
"""Side in pixels of the downscaled patch that is predicted."""
_GREY: Final = 128
_MIN_VARIANCE: Final = 1e-3
"""Added to the variance: the noise of a plain background is not worth predicting."""
_STRIDE: Final = 8
"""Every n-th image is used, because a second pass through the image tower is expensive."""
_MIN_IMAGES: Final = 8
"""Smallest number of images used, if the batch has as many."""


class MaskedImageLoss(nn.Module):
    """Masked image modelling, given the fused other modalities.

    Sources: MAE (He et al. 2022), SimMIM (Xie et al. 2022), ITEm (2023).
    Patches are masked in the pixels, before the image tower, so that any tower works. A transformer block of this
    objective attends to the image tokens, the summary of the other modalities, and one query token per masked patch.
    """

    name = "masked_image"

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(GRID_SIZE**2, width) * 0.02)
        self.help = nn.Linear(width, width)
        self.block = TransformerBlock(width, heads)
        self.norm = nn.LayerNorm(width)
        self.paint = nn.Linear(width, 3 * _PATCH_SIZE**2)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean squared error of the masked patches, each of mean 0 and variance 1: ()."""
        with_image = batch.x["image"]["has"].nonzero()[:, 0]
        stride = max(1, min(_STRIDE, len(with_image) // _MIN_IMAGES))
        sample = with_image[int(torch.randint(stride, (), generator=g)) :: stride]
        if len(sample) < 2:  # batch statistics of a single image are meaningless
            return self.places.sum() * 0
        pixels = batch.x["image"]["pixels"][sample]
        hidden = torch.rand(len(sample), GRID_SIZE**2, generator=g).argsort(1)[:, :N_MASKED].to(pixels.device)
        with frozen_batch_norm(model.image):
            image = model.image(
                {"pixels": mask_patches(pixels, hidden), "has": torch.ones_like(sample, dtype=torch.bool)}
            )
        parts = batch.encode_masked(model, g).tokens.items()
        rest = model.fuse(
            {name: Tokens(p.x[sample], p.real[sample]) for name, p in parts if name != "image"}, None
        ).summary
        context = torch.cat([self.help(rest)[:, None], image.x], 1)
        states = self.block(torch.cat([context, self.places[hidden]], 1))[:, context.shape[1] :]
        target = extract_patches(pixels).gather(1, hidden[..., None].expand(-1, -1, 3 * _PATCH_SIZE**2))
        return F.mse_loss(self.paint(self.norm(states)).float(), target)


def mask_patches(pixels: Tensor, masked: Tensor) -> Tensor:
    """Fill the patches `masked` (m, H) of images (m, 3, S, S) uint8 with grey."""
    cells = torch.zeros(len(pixels), GRID_SIZE**2, device=pixels.device).scatter(1, masked, 1.0)
    mask = F.interpolate(cells.view(-1, 1, GRID_SIZE, GRID_SIZE), pixels.shape[-2:]) > 0
    return pixels.masked_fill(mask, _GREY)


def extract_patches(pixels: Tensor) -> Tensor:
    """Return each patch downscaled, with mean 0 and variance 1: (m, 3, S, S) uint8 -> (m, 64, 48)."""
    small = F.adaptive_avg_pool2d(pixels.float() / 255, GRID_SIZE * _PATCH_SIZE)
    flat = (
        small.view(-1, 3, GRID_SIZE, _PATCH_SIZE, GRID_SIZE, _PATCH_SIZE)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(len(pixels), GRID_SIZE**2, -1)
    )
    centred = flat - flat.mean(2, keepdim=True)
    return centred / (centred.square().mean(2, keepdim=True) + _MIN_VARIANCE).sqrt()


@contextmanager
def frozen_batch_norm(tower: nn.Module) -> Iterator[None]:
    """Disable updates of running batch-norm statistics inside the block: they are for unmasked images."""
    norms = [m for m in tower.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    updating = [norm for norm in norms if norm.training]
    for norm in updating:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in updating:
            norm.track_running_stats = True
