"""Masked language modelling: predict masked words from the remaining text, the image and the attributes.

In: products. Out: cross-entropy of the masked tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import Tokens, text
from recsys.encoder.product_encoder import ProductEncoder

_MASK_RATE = 0.2
_STRIDE = 8
"""Every n-th product is used, because encoding a text a second time is expensive."""


class MaskedTextLoss(nn.Module):
    """Masked language modelling (BERT, Devlin et al. 2019), given the fused rest (ITEm, Liao et al. 2023)."""

    name = "masked_text"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.help = nn.Linear(width, width)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of the masked tokens: ()."""
        sample = slice(int(torch.randint(_STRIDE, (), generator=g)), None, _STRIDE)
        tokens = batch.x["text"]["tokens"][sample].long()
        masked = (torch.rand(tokens.shape, generator=g).to(tokens.device) < _MASK_RATE) & (tokens != text.PAD)
        if not bool(masked.any()):
            return self.own.weight.sum() * 0
        states = model.text.hidden_states(tokens.masked_fill(masked, text.MASK))
        first = states.shape[1] - int((tokens != text.PAD).sum(1).max())
        parts = {
            name: Tokens(part.x[sample], part.real[sample])
            for name, part in batch.encode_masked(model, g).tokens.items()
        }
        parts["text"] = Tokens(states[:, :first], (tokens[:, :1] != text.PAD).expand(-1, first))
        rest = model.fuse(parts, None).summary
        masked = masked[:, : states.shape[1] - first]
        queries = self.own(states[:, first:][masked]) + self.help(rest)[masked.nonzero()[:, 0]]
        logits = F.linear(F.gelu(queries), model.text.embedding.weight) * model.settings.width**-0.5
        return F.cross_entropy(logits.float(), tokens[:, : masked.shape[1]][masked])
