"""Guess hidden attributes from those that are left, the text and the picture.

In: products. Out: cross-entropy of the hidden values and bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.encoder.batches import ProductBatch, some_views
from recsys.encoder.product import ProductEncoder

_LEAST, _MOST = 0.3, 1.0


class MaskedAttributes(nn.Module):
    """Hides of each product a random share of the features and guesses them from the fused rest (ITEm, 2023)."""

    name = "masked_attributes"

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of the hidden features: ()."""
        x = batch.x["attributes"]
        known = model.attributes.known(x)
        share = _LEAST + (_MOST - _LEAST) * torch.rand(len(known), 1, generator=g)
        conceal = (torch.rand(known.shape, generator=g) < share).to(known.device)
        show = some_views(batch.present(model), model.settings.modality_dropout, g)
        parts = {name: part.shown(show[name]) for name, part in batch.towers(model, g).items()}
        parts["attributes"] = model.attributes(x, conceal).shown(show["attributes"])
        return model.attributes.reconstruct(model.fuse(parts, None).summary, x, conceal)
