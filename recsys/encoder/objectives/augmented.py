"""Contrastive objective: match a product in one augmented view with the same product in another.

In: products. Out: contrastive loss between two views that differ in image, words and modalities.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import MaskedView, ProductBatch, apply_masks, sample_masks
from recsys.encoder.modalities import Inputs, text
from recsys.encoder.objectives.contrastive import ContrastiveView, contrastive_loss, infonce, same_product_mask
from recsys.encoder.product_encoder import ProductEncoder, ProductInputs

_DROP_RATE = 0.2
"""Share of the words that are left out of the second view."""
_STRIDE = 4
"""Every n-th product is encoded a second time, because a pass through all towers is expensive."""
_MIN_PRODUCTS = 16
"""Smallest number of products encoded twice, if the batch has as many: a contrast needs negatives."""


class AugmentedViewLoss(nn.Module):
    """NT-Xent (SimCLR, Chen et al. 2020): among all views, each finds its counterpart.

    The first view is the one all objectives share. The second has another image crop and lighting, words left out (as
    Wei & Zou 2019), other attributes and modalities masked. The temperature is learned.
    """

    name = "augmented"

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy over the views of the sampled products: ()."""
        stride = max(1, min(_STRIDE, len(batch) // _MIN_PRODUCTS))
        sample = slice(int(torch.randint(stride, (), generator=g)), None, stride)
        first, second = (
            batch.encode_masked(model, g).embedding.vector[sample],
            self.second_view(model, batch, sample, g).embedding.vector,
        )
        rows = np.tile(batch.rows[sample], 2)
        # Swapping the halves aligns each view with its counterpart; a view itself has the same row and is masked.
        return contrastive_loss(
            ContrastiveView(torch.cat([first, second]), rows),
            ContrastiveView(torch.cat([second, first]), rows),
            matrix_loss=partial(infonce, scale=self.log_scale.exp().clamp(max=100)),
            excluded_pairs=same_product_mask,
            prefix_lengths=model.settings.prefixes,
        )

    @staticmethod
    def second_view(model: ProductEncoder, batch: ProductBatch, sample: slice, g: torch.Generator) -> MaskedView:
        """Encode some products of a batch in a second, randomly augmented view."""
        x: ProductInputs = {name: {key: value[sample] for key, value in part.items()} for name, part in batch.x.items()}
        x["text"] = {**x["text"], "tokens": _mask_tokens(x["text"]["tokens"], g)}
        x |= {name: _drop_words(x[name], g) for name in ("words", "facts")}
        if int(x["image"]["has"].sum()) == 1:  # batch statistics of a single image are meaningless
            x["image"] = {**x["image"], "has": torch.zeros_like(x["image"]["has"])}
        show, conceal = sample_masks(model, x, model.present(x), g)
        return apply_masks(model, x, model.modality_tokens(x, g), visible=show, masked_features=conceal)


def _mask_tokens(tokens: Tensor, g: torch.Generator) -> Tensor:
    """Replace random tokens (m, L) by the mask token."""
    hide = (torch.rand(tokens.shape, generator=g).to(tokens.device) < _DROP_RATE) & (tokens != text.PAD)
    return tokens.masked_fill(hide, text.MASK)


def _drop_words(x: Inputs, g: torch.Generator) -> Inputs:
    """Set the weight of random exact words to 0."""
    keep = (torch.rand(x["weights"].shape, generator=g) >= _DROP_RATE).to(x["weights"].device)
    return {**x, "weights": x["weights"] * keep}
