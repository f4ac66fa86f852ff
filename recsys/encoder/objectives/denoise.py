"""Denoising objective: predict the true attributes of a product from a corrupted copy of them.

In: products. Out: cross-entropy of the clean values and bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import Inputs
from recsys.encoder.modalities.attributes import MISSING
from recsys.encoder.product_encoder import ProductEncoder

_SWAP_RATE = 0.15
_BLANK_RATE = 0.15


class DenoisingLoss(nn.Module):
    """Denoising autoencoder (Vincent et al. 2008) of the attributes alone, through the fusion.

    Unlike in `masked_attributes`, the model cannot see which features are corrupted: a blank one looks like a missing
    one, a swapped one like any other. So all known features are predicted, the unchanged ones too.
    """

    name = "denoise"

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of all known features: ()."""
        clean = batch.x["attributes"]
        tokens = model.attributes(corrupt(clean, g))
        summary = model.fuse({"attributes": tokens}, None).summary
        return model.attributes.predict_masked(summary, clean, torch.ones_like(model.attributes.known_mask(clean)))


def corrupt(x: Inputs, g: torch.Generator) -> Inputs:
    """Return attributes with some swapped with another product's and others blank; `x` is not modified."""
    values, numbers = x["values"], x["numbers"]
    n_features = values.shape[1] + numbers.shape[1]
    draw = torch.rand(len(values), n_features, generator=g).to(values.device)
    source = torch.randint(max(1, len(values)), (len(values), n_features), generator=g).to(values.device)
    swap, blank = draw < _SWAP_RATE, draw >= 1 - _BLANK_RATE
    value_columns, number_columns = slice(None, values.shape[1]), slice(values.shape[1], None)
    swapped = values.gather(0, source[:, value_columns, None].expand_as(values))
    values = torch.where(swap[:, value_columns, None], swapped, values).masked_fill(
        blank[:, value_columns, None], MISSING
    )
    numbers = torch.where(swap[:, number_columns], numbers.gather(0, source[:, number_columns]), numbers)
    return {**x, "values": values, "numbers": numbers.masked_fill(blank[:, number_columns], torch.nan)}
