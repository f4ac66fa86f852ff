"""Find what the same customer bought close in time, among everything else.

In: products and partners they were bought with. Out: sampled cross-entropy, corrected for how often a partner is drawn.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches import ProductBatch
from recsys.encoder.product import ProductEncoder

_MEMORY = 8192


class CoPurchase(nn.Module):
    """Contrastive loss over pairs (item2vec, Barkan & Koenigstein 2016) with the logQ correction (Yi et al. 2019).

    Negatives are the other partners of the batch and a memory of the vectors of earlier steps (Wang et al. 2020), which
    is what makes the model tell apart products of one kind.
    """

    name = "co_purchase"
    memory: Tensor
    memory_rows: Tensor

    def __init__(self, dim: int, *, correction: float = 1.0, memory: int = _MEMORY) -> None:
        super().__init__()
        self.correction = correction
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.register_buffer("memory", torch.zeros(memory, dim))
        self.register_buffer("memory_rows", torch.full((memory,), -1, dtype=torch.int64))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of the true partners: ()."""
        vectors = batch.whole(model, g).encoded.vector
        rows = torch.from_numpy(batch.rows)
        half = len(vectors) // 2
        anchors, partners = vectors[:half][batch.paired], vectors[half:][batch.paired]
        loss = self._loss(anchors, partners, rows[:half][batch.paired], rows[half:][batch.paired], batch)
        self._remember(vectors.detach(), rows)
        return loss

    def _loss(
        self, anchors: Tensor, partners: Tensor, rows: Tensor, partner_rows: Tensor, batch: ProductBatch
    ) -> Tensor:
        if len(anchors) == 0:
            return self.log_scale * 0
        others = torch.cat([partners, self.memory])
        other_rows = torch.cat([partner_rows, self.memory_rows])
        known = torch.from_numpy(batch.pairs.among(rows.numpy(), other_rows.numpy()))
        known |= (other_rows < 0)[None, :]
        truth = torch.arange(len(anchors))
        known[truth, truth] = False
        drawn = torch.from_numpy(batch.pairs.log_mixed)[other_rows]
        logits = self.log_scale.exp().clamp(max=100) * (anchors @ others.T).float() - self.correction * drawn
        return F.cross_entropy(logits.masked_fill(known, -torch.inf), truth)

    @torch.no_grad()
    def _remember(self, vectors: Tensor, rows: Tensor) -> None:
        """Put the newest vectors in front; the oldest fall out."""
        size = len(self.memory)
        self.memory = torch.cat([vectors.float(), self.memory])[:size]
        self.memory_rows = torch.cat([rows, self.memory_rows])[:size]
