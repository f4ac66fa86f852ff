"""Guess hidden parts of the picture from those that are left, the text and the attributes.

In: products. Out: mean squared error of the hidden patches.
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

GRID: Final = 8
"""A picture is cut into so many patches a side, whatever its size in pixels."""
HIDDEN: Final = 40
"""Of the 64 patches; SimMIM hides 60 %, MAE 75 %."""
_DETAIL: Final = 4
"""Side of the small copy of a patch that is guessed."""
_BLANK: Final = 128
_FAINT: Final = 1e-3
"""Variance next to nothing: the grain of a plain background is not worth guessing."""
_SHARE: Final = 8
"""One picture in so many is asked: a second pass through the picture's tower is dear."""
_LEAST: Final = 8
"""Pictures asked at least, as far as there are so many."""


class MaskedImageLoss(nn.Module):
    """Masked image modelling (MAE, He et al. 2022; SimMIM, Xie et al. 2022), helped by the fused rest (ITEm, 2023).

    Hidden patches are blank before the picture's tower sees it, so that any tower will do. A block of its own looks at
    the picture's tokens, at the summary of the other modalities, and at a token for each hidden place.
    """

    name = "masked_image"

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(GRID**2, width) * 0.02)
        self.help = nn.Linear(width, width)
        self.block = TransformerBlock(width, heads)
        self.norm = nn.LayerNorm(width)
        self.paint = nn.Linear(width, 3 * _DETAIL**2)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean squared error of the hidden patches, each of mean 0 and variance 1: ()."""
        pictured = batch.x["image"]["has"].nonzero()[:, 0]
        share = max(1, min(_SHARE, len(pictured) // _LEAST))
        some = pictured[int(torch.randint(share, (), generator=g)) :: share]
        if len(some) < 2:  # statistics of a single picture say nothing
            return self.places.sum() * 0
        pixels = batch.x["image"]["pixels"][some]
        hidden = torch.rand(len(some), GRID**2, generator=g).argsort(1)[:, :HIDDEN].to(pixels.device)
        with frozen_batch_norm(model.image):
            image = model.image(
                {"pixels": mask_patches(pixels, hidden), "has": torch.ones_like(some, dtype=torch.bool)}
            )
        parts = batch.whole(model, g).parts.items()
        rest = model.fuse({name: Tokens(p.x[some], p.real[some]) for name, p in parts if name != "image"}, None).summary
        known = torch.cat([self.help(rest)[:, None], image.x], 1)
        states = self.block(torch.cat([known, self.places[hidden]], 1))[:, known.shape[1] :]
        truth = patches(pixels).gather(1, hidden[..., None].expand(-1, -1, 3 * _DETAIL**2))
        return F.mse_loss(self.paint(self.norm(states)).float(), truth)


def mask_patches(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Pictures (m, 3, S, S) uint8 with their patches `hidden` (m, H) all of one grey."""
    cells = torch.zeros(len(pixels), GRID**2, device=pixels.device).scatter(1, hidden, 1.0)
    places = F.interpolate(cells.view(-1, 1, GRID, GRID), pixels.shape[-2:]) > 0
    return pixels.masked_fill(places, _BLANK)


def patches(pixels: Tensor) -> Tensor:
    """A small copy of each patch, its numbers of mean 0 and variance 1: (m, 3, S, S) uint8 -> (m, 64, 48)."""
    small = F.adaptive_avg_pool2d(pixels.float() / 255, GRID * _DETAIL)
    cut = small.view(-1, 3, GRID, _DETAIL, GRID, _DETAIL).permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), GRID**2, -1)
    centred = cut - cut.mean(2, keepdim=True)
    return centred / (centred.square().mean(2, keepdim=True) + _FAINT).sqrt()


@contextmanager
def frozen_batch_norm(tower: nn.Module) -> Iterator[None]:
    """Inside, batch norms keep no account of what they see: their statistics are for whole pictures."""
    norms = [m for m in tower.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    training = [norm for norm in norms if norm.training]
    for norm in training:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in training:
            norm.track_running_stats = True
