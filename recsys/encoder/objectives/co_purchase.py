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


class CoPurchase(nn.Module):
    """Contrastive loss over pairs (item2vec, Barkan & Koenigstein 2016) with the logQ correction (Yi et al. 2019).

    Wrong answers are the other partners of the batch, less those known to be right too. A memory of earlier vectors was
    tried and makes the model drift away from it instead of learning.
    """

    name = "co_purchase"

    def __init__(self, *, correction: float = 1.0) -> None:
        """`correction` is how much of log(frequency in a batch) is taken off, 0..1."""
        super().__init__()
        self.correction = correction
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean cross-entropy of the true partners: ()."""
        vectors = batch.whole(model, g).encoded.vector
        half, paired = len(vectors) // 2, batch.paired
        if int(paired.sum()) < 2:
            return self.log_scale * 0
        rows = batch.rows[:half][paired.cpu().numpy()]
        partners = batch.rows[half:][paired.cpu().numpy()]
        known = torch.from_numpy(batch.pairs.among(rows, partners)).fill_diagonal_(False).to(vectors.device)
        drawn = torch.from_numpy(batch.pairs.log_mixed[partners]).to(vectors.device)
        inner = (vectors[:half][paired] @ vectors[half:][paired].T).float()
        logits = self.log_scale.exp().clamp(max=100) * inner - self.correction * drawn
        return F.cross_entropy(logits.masked_fill(known, -torch.inf), torch.arange(len(rows), device=vectors.device))
