"""Bring the views of one product together: its text, its picture, all it has, and what a customer might type for it.

In: products. Out: mean contrastive loss of the pairs of views.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import text
from recsys.encoder.objectives.contrastive import (
    ContrastiveView,
    PairMask,
    contrastive_loss,
    same_product_mask,
    sigmoid,
    symmetric_infonce,
)
from recsys.encoder.product_encoder import ProductEmbedding, ProductEncoder

_PAIRS = ("text_image", "text_whole", "image_whole", "query_whole", "query_image")
_BIAS = -10.0


class ImageTextLoss(nn.Module):
    """Contrastive loss between single views and between each and the fused one; temperatures are learnt.

    `infonce` finds each product among the batch (CLIP, Radford et al. 2021); `sigmoid` judges each pair by itself
    (SigLIP, Zhai et al. 2023), with a learnt bias, both starting where that paper has them start.
    """

    name = "image_text"

    def __init__(self, *, kind: Literal["infonce", "sigmoid"] = "infonce") -> None:
        super().__init__()
        scale = 20.0 if kind == "infonce" else 10.0
        self.log_scales = nn.Parameter(torch.full((len(_PAIRS),), math.log(scale)))
        self.biases = nn.Parameter(torch.full((len(_PAIRS),), _BIAS)) if kind == "sigmoid" else None

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean over the pairs of views: ()."""
        present = batch.present(model)
        everyone = torch.ones(len(batch), dtype=torch.bool, device=present["text"].device)
        views = {
            "text": (batch.alone(model, g, "text"), present["text"]),
            "image": (batch.alone(model, g, "image"), present["image"]),
            "whole": (batch.whole(model, g).encoded, everyone),
            "query": (
                model.fuse({"text": model.text(batch.query)}, model.written(batch.query)),
                batch.query["tokens"][:, 0] != text.PAD,
            ),
        }
        lengths = model.settings.prefixes
        return torch.stack([self._pair(views, at, batch, lengths=lengths) for at in range(len(_PAIRS))]).mean()

    def _pair(
        self,
        views: dict[str, tuple[ProductEmbedding, Tensor]],
        at: int,
        batch: ProductBatch,
        *,
        lengths: tuple[int, ...],
    ) -> Tensor:
        pair = _PAIRS[at]
        (a, has_a), (b, has_b) = (views[name] for name in pair.split("_"))
        both = has_a & has_b
        rows = batch.rows[both.cpu().numpy()]
        return contrastive_loss(
            ContrastiveView(a.vector[both], rows),
            ContrastiveView(b.vector[both], rows),
            judge=self._judge(at),
            # Two colours of one product often share their text: no text view can tell them apart.
            alike=batch.same_text if "text" in pair else same_product_mask,
            lengths=lengths,
        )

    def _judge(self, at: int) -> PairMask:
        scale = self.log_scales[at].exp().clamp(max=100)
        return (
            partial(symmetric_infonce, scale=scale)
            if self.biases is None
            else partial(sigmoid, scale=scale, bias=self.biases[at])
        )
