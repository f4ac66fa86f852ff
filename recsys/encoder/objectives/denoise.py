"""See through wrong and missing attributes: guess what a product really is from a spoilt copy of its features.

In: products. Out: cross-entropy of the clean values and bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import Inputs
from recsys.encoder.modalities.attributes import MISSING
from recsys.encoder.product_encoder import ProductEncoder

_SWAPPED = 0.15
_BLANKED = 0.15


class DenoisingLoss(nn.Module):
    """A denoising autoencoder (Vincent et al. 2008) of the attributes alone, through the fusion.

    Unlike `masked_attributes` nothing tells the model which features are spoilt: a blank one looks like one the shop
    does not know, a swapped one like any other. So all known features are asked, the untouched ones too.
    """

    name = "denoise"

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of all known features: ()."""
        clean = batch.x["attributes"]
        tokens = model.attributes(corrupt(clean, g))
        summary = model.fuse({"attributes": tokens}, None).summary
        return model.attributes.predict_masked(summary, clean, torch.ones_like(model.attributes.known(clean)))


def corrupt(x: Inputs, g: torch.Generator) -> Inputs:
    """Attributes, some of them swapped with those of another product, others blank: `x` itself stays as it is."""
    values, numbers = x["values"], x["numbers"]
    features = values.shape[1] + numbers.shape[1]
    draw = torch.rand(len(values), features, generator=g).to(values.device)
    other = torch.randint(max(1, len(values)), (len(values), features), generator=g).to(values.device)
    swap, blank = draw < _SWAPPED, draw >= 1 - _BLANKED
    of_values, of_numbers = slice(None, values.shape[1]), slice(values.shape[1], None)
    theirs = values.gather(0, other[:, of_values, None].expand_as(values))
    values = torch.where(swap[:, of_values, None], theirs, values).masked_fill(blank[:, of_values, None], MISSING)
    numbers = torch.where(swap[:, of_numbers], numbers.gather(0, other[:, of_numbers]), numbers)
    return {**x, "values": values, "numbers": numbers.masked_fill(blank[:, of_numbers], torch.nan)}
