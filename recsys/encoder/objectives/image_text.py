"""Contrastive objective that aligns the views of a product: text, image, all modalities, search query.

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
    MatrixLoss,
    contrastive_loss,
    same_product_mask,
    sigmoid_loss,
    symmetric_infonce,
)
from recsys.encoder.product_encoder import ProductEmbedding, ProductEncoder

_VIEW_PAIRS = ("text_image", "text_whole", "image_whole", "query_whole", "query_image")
_INITIAL_BIAS = -10.0


class ImageTextLoss(nn.Module):
    """Contrastive loss between single views, and between each and the fused view.

    Temperatures are learned. `infonce` finds each product in the batch (CLIP, Radford et al. 2021); `sigmoid_loss`
    classifies each pair independently (SigLIP, Zhai et al. 2023) with a learned bias; scale and bias start at the
    values of that paper.
    """

    name = "image_text"

    def __init__(self, *, kind: Literal["infonce", "sigmoid"] = "infonce") -> None:
        super().__init__()
        scale = 20.0 if kind == "infonce" else 10.0
        self.log_scales = nn.Parameter(torch.full((len(_VIEW_PAIRS),), math.log(scale)))
        self.biases = nn.Parameter(torch.full((len(_VIEW_PAIRS),), _INITIAL_BIAS)) if kind == "sigmoid" else None

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean loss over the pairs of views: ()."""
        present = batch.present(model)
        all_present = torch.ones(len(batch), dtype=torch.bool, device=present["text"].device)
        views = {
            "text": (batch.encode_modality(model, g, "text"), present["text"]),
            "image": (batch.encode_modality(model, g, "image"), present["image"]),
            "whole": (batch.encode_masked(model, g).embedding, all_present),
            "query": (
                model.fuse({"text": model.text(batch.query)}, model.encode_words(batch.query)),
                batch.query["tokens"][:, 0] != text.PAD,
            ),
        }
        lengths = model.settings.prefixes
        return torch.stack([self._pair_loss(views, i, batch, lengths=lengths) for i in range(len(_VIEW_PAIRS))]).mean()

    def _pair_loss(
        self,
        views: dict[str, tuple[ProductEmbedding, Tensor]],
        index: int,
        batch: ProductBatch,
        *,
        lengths: tuple[int, ...],
    ) -> Tensor:
        pair = _VIEW_PAIRS[index]
        (a, has_a), (b, has_b) = (views[name] for name in pair.split("_"))
        both = has_a & has_b
        rows = batch.rows[both.cpu().numpy()]
        return contrastive_loss(
            ContrastiveView(a.vector[both], rows),
            ContrastiveView(b.vector[both], rows),
            matrix_loss=self._matrix_loss(index),
            # Colour variants of one product often share their text, so no text view can separate them.
            excluded_pairs=batch.same_text_mask if "text" in pair else same_product_mask,
            prefix_lengths=lengths,
        )

    def _matrix_loss(self, index: int) -> MatrixLoss:
        scale = self.log_scales[index].exp().clamp(max=100)
        return (
            partial(symmetric_infonce, scale=scale)
            if self.biases is None
            else partial(sigmoid_loss, scale=scale, bias=self.biases[index])
        )
