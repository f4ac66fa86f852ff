"""Guess hidden words of title and description, with the help of the picture and the attributes.

In: products. Out: cross-entropy of the hidden tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.modalities import Tokens, text
from recsys.encoder.product_encoder import ProductEncoder

_RATE = 0.2
_SHARE = 8
"""One product in so many is asked: reading a text a second time is dear."""


class MaskedTextLoss(nn.Module):
    """Masked language modelling (BERT, Devlin et al. 2019), helped by the fused rest (ITEm, Liao et al. 2023)."""

    name = "masked_text"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.help = nn.Linear(width, width)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of the hidden tokens: ()."""
        some = slice(int(torch.randint(_SHARE, (), generator=g)), None, _SHARE)
        tokens = batch.x["text"]["tokens"][some].long()
        hide = (torch.rand(tokens.shape, generator=g).to(tokens.device) < _RATE) & (tokens != text.PAD)
        if not bool(hide.any()):
            return self.own.weight.sum() * 0
        hidden = model.text.hidden(tokens.masked_fill(hide, text.MASK))
        first = hidden.shape[1] - int((tokens != text.PAD).sum(1).max())
        parts = {name: Tokens(part.x[some], part.real[some]) for name, part in batch.whole(model, g).parts.items()}
        parts["text"] = Tokens(hidden[:, :first], (tokens[:, :1] != text.PAD).expand(-1, first))
        rest = model.fuse(parts, None).summary
        hide = hide[:, : hidden.shape[1] - first]
        asked = self.own(hidden[:, first:][hide]) + self.help(rest)[hide.nonzero()[:, 0]]
        logits = F.linear(F.gelu(asked), model.text.embedding.weight) * model.settings.width**-0.5
        return F.cross_entropy(logits.float(), tokens[:, : hide.shape[1]][hide])
