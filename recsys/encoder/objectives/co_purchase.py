"""Contrastive objective: find a product that the same customer bought close in time.

In: products and partners they were bought with. Out: sampled cross-entropy, corrected for the sampling frequency.
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
    """Contrastive loss over co-purchased pairs with the logQ correction.

    Sources: item2vec (Barkan & Koenigstein 2016), logQ correction (Yi et al. 2019).

    Negatives are the other partners of the batch, without known partners of the product. A memory bank of earlier
    vectors was tried: the model drifts away from it instead of learning.
    """

    name = "co_purchase"

    def __init__(self, *, correction: float = 1.0) -> None:
        """Create the loss; `correction` (0..1) is the share of log(frequency in a batch) that is subtracted."""
        super().__init__()
        self.correction = correction
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of the true partners: ()."""
        vectors, paired = batch.encode_masked(model, g).embedding.vector, batch.has_partner.cpu().numpy()
        half = len(paired)
        return contrastive_loss(
            ContrastiveView(vectors[:half][batch.has_partner], batch.rows[:half][paired]),
            ContrastiveView(vectors[half:][batch.has_partner], batch.rows[half:][paired]),
            matrix_loss=partial(infonce, scale=self.log_scale.exp().clamp(max=100)),
            excluded_pairs=batch.pairs.in_batch_matches,
            logit_correction=lambda rows: self.correction * torch.from_numpy(batch.pairs.log_batch_frequency[rows]),
            prefix_lengths=model.settings.prefixes,
        )
