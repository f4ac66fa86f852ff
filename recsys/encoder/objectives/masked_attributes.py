"""Masked attribute modelling: predict masked attributes from the other ones, the text and the image.

In: products. Out: cross-entropy of the masked values and bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder


class MaskedAttributeLoss(nn.Module):
    """Masks a random share of each product's features and predicts them from the fused rest (ITEm, 2023)."""

    name = "masked_attributes"

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of the masked features: ()."""
        view = batch.encode_masked(model, g)
        loss = model.attributes.predict_masked(view.embedding.summary, batch.x["attributes"], view.masked_features)
        # The same from the image alone: this is how the image tower learns to recognise attributes.
        has_image = batch.present(model)["image"][:, None].expand_as(view.masked_features)
        return loss + model.attributes.predict_masked(
            batch.encode_modality(model, g, "image").summary, batch.x["attributes"], has_image
        )
