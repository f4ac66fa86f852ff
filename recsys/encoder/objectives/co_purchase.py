"""Find what the same customer bought close in time, among everything else.

In: products and partners they were bought with. Out: sampled cross-entropy, corrected for how often a partner is drawn.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.objectives.contrastive import ContrastiveView, contrastive_loss, infonce
from recsys.encoder.product_encoder import ProductEncoder


class CoPurchaseLoss(nn.Module):
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
        vectors, paired = batch.whole(model, g).encoded.vector, batch.paired.cpu().numpy()
        half = len(paired)
        return contrastive_loss(
            ContrastiveView(vectors[:half][batch.paired], batch.rows[:half][paired]),
            ContrastiveView(vectors[half:][batch.paired], batch.rows[half:][paired]),
            judge=partial(infonce, scale=self.log_scale.exp().clamp(max=100)),
            alike=batch.pairs.in_batch_matches,
            less=lambda rows: self.correction * torch.from_numpy(batch.pairs.log_mixed[rows]),
            lengths=model.settings.prefixes,
        )
