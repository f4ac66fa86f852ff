"""Guess hidden attributes from those that are left, the text and the picture.

In: products. Out: cross-entropy of the hidden values and bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder


class MaskedAttributeLoss(nn.Module):
    """Hides of each product a random share of the features and guesses them from the fused rest (ITEm, 2023)."""

    name = "masked_attributes"

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of the hidden features: ()."""
        whole = batch.whole(model, g)
        loss = model.attributes.predict_masked(whole.encoded.summary, batch.x["attributes"], whole.conceal)
        # The same from the picture alone: what a picture shows of a product is how the picture's tower learns to see.
        seen = batch.present(model)["image"][:, None].expand_as(whole.conceal)
        return loss + model.attributes.predict_masked(
            batch.alone(model, g, "image").summary, batch.x["attributes"], seen
        )
