"""Bring the views of one product together: its text, its picture, all it has, and what a customer might type for it.

In: products. Out: mean contrastive loss of the pairs of views.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches import ProductBatch
from recsys.encoder.fields import text
from recsys.encoder.product import Encoded, ProductEncoder

_PAIRS = ("text_image", "text_whole", "image_whole", "query_whole", "query_image")


def contrast(a: Tensor, b: Tensor, *, scale: Tensor, same: Tensor) -> Tensor:
    """Find b[i] by a[i] among all b, and back (InfoNCE, CLIP: Radford et al. 2021).

    Args:
        a: (b, d) unit vectors.
        b: (b, d) unit vectors.
        scale: () what inner products are multiplied with.
        same: (b, b) bool, True where a pair off the diagonal must not count as different.

    Returns:
        () mean cross-entropy; 0 for fewer than two pairs.
    """
    if len(a) < 2:
        return a.sum() * 0
    logits = (scale * (a @ b.T).float()).masked_fill(same, -torch.inf)
    truth = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


class ImageText(nn.Module):
    """Contrastive loss between single views and between each and the fused one; temperatures are learnt."""

    name = "image_text"

    def __init__(self) -> None:
        super().__init__()
        self.log_scales = nn.Parameter(torch.full((len(_PAIRS),), math.log(20.0)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean over the pairs of views: ()."""
        towers, present = batch.towers(model, g), batch.present(model)
        everyone = torch.ones(len(batch), dtype=torch.bool)
        views = {
            "text": (model.fuse({"text": towers["text"]}, model.words(batch.x["words"])), present["text"]),
            "image": (model.fuse({"image": towers["image"]}, model.image.glance(batch.x["image"])), present["image"]),
            "whole": (batch.whole(model, g).encoded, everyone),
            "query": (
                model.fuse({"text": model.text(batch.query)}, model.words(batch.query)),
                batch.query["tokens"][:, 0] != text.PAD,
            ),
        }
        scales = self.log_scales.exp().clamp(max=100)
        return torch.stack([self._pair(views, name, batch, scales[at]) for at, name in enumerate(_PAIRS)]).mean()

    @staticmethod
    def _pair(views: dict[str, tuple[Encoded, Tensor]], pair: str, batch: ProductBatch, scale: Tensor) -> Tensor:
        (a, has_a), (b, has_b) = (views[name] for name in pair.split("_"))
        both = has_a & has_b
        rows = torch.from_numpy(batch.rows)
        twice = (rows[:, None] == rows[None, :]) & ~torch.eye(len(rows), dtype=torch.bool)
        # Two colours of one product often share their text: no text view can tell them apart.
        same = (twice | batch.same_text) if "text" in pair else twice
        return contrast(a.vector[both], b.vector[both], scale=scale, same=same[both][:, both])
