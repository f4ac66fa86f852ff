"""Find a product seen one way by the same product seen another way.

In: products. Out: contrastive loss between two views that differ in picture, words and modalities.
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

_RATE = 0.2
"""Share of the words that the second view does without."""
_SHARE = 4
"""One product in so many is seen a second time: a pass through all towers is dear."""
_LEAST = 16
"""Products seen a second time at least, as far as there are so many: it takes others to be told from."""


class AugmentedViewLoss(nn.Module):
    """NT-Xent (SimCLR, Chen et al. 2020): among both views of all products, each finds its own other view.

    The first view is the one all objectives share. The second has its picture cut and lit anew, words left out (as Wei
    & Zou 2019), other attributes and modalities hidden. The temperature is learnt.
    """

    name = "augmented"

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy over the views of the products asked: ()."""
        share = max(1, min(_SHARE, len(batch) // _LEAST))
        some = slice(int(torch.randint(share, (), generator=g)), None, share)
        one, two = batch.whole(model, g).encoded.vector[some], self.again(model, batch, some, g).encoded.vector
        rows = np.tile(batch.rows[some], 2)
        # Rolled by half, each view stands beside the other of its product; itself is of the same row and never counts.
        return contrastive_loss(
            ContrastiveView(torch.cat([one, two]), rows),
            ContrastiveView(torch.cat([two, one]), rows),
            judge=partial(infonce, scale=self.log_scale.exp().clamp(max=100)),
            alike=same_product_mask,
            lengths=model.settings.prefixes,
        )

    @staticmethod
    def again(model: ProductEncoder, batch: ProductBatch, some: slice, g: torch.Generator) -> MaskedView:
        """Some products of a batch as chance shows them a second time."""
        x: ProductInputs = {name: {key: held[some] for key, held in part.items()} for name, part in batch.x.items()}
        x["text"] = {**x["text"], "tokens": _blanked(x["text"]["tokens"], g)}
        x |= {name: _thinned(x[name], g) for name in ("words", "facts")}
        if int(x["image"]["has"].sum()) == 1:  # statistics of a single picture say nothing
            x["image"] = {**x["image"], "has": torch.zeros_like(x["image"]["has"])}
        show, conceal = sample_masks(model, x, model.present(x), g)
        return apply_masks(model, x, model.towers(x, g), show=show, conceal=conceal)


def _blanked(tokens: Tensor, g: torch.Generator) -> Tensor:
    """Tokens (m, L), some of them hidden."""
    hide = (torch.rand(tokens.shape, generator=g).to(tokens.device) < _RATE) & (tokens != text.PAD)
    return tokens.masked_fill(hide, text.MASK)


def _thinned(x: Inputs, g: torch.Generator) -> Inputs:
    """Exact words, some of them without weight."""
    keep = (torch.rand(x["weights"].shape, generator=g) >= _RATE).to(x["weights"].device)
    return {**x, "weights": x["weights"] * keep}
