"""Classification objective: predict labels that people assigned to some of the products.

In: products, a few of them labelled. Out: cross-entropy of the labels, plus a supervised contrastive loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder

_TEMPERATURE = 0.1
_CONTRASTIVE_WEIGHT = 0.5
"""Weight relative to the cross-entropy: with few labels it raises accuracy of heads and neighbours by about a point."""


def supervised_contrastive_loss(vectors: Tensor, truth: Tensor, rows: Tensor) -> Tensor:
    """Contrast products of one label value with all others (SupCon, Khosla et al. 2020).

    Args:
        vectors: (m, d) unit vectors.
        truth: (m,) label value of each.
        rows: (m,) product of each; a product is neither a positive nor a negative of itself.

    Returns:
        () mean over the products that share their value with another one; 0 if none does.
    """
    same_product = rows[:, None] == rows[None, :]
    is_positive = ((truth[:, None] == truth[None, :]) & ~same_product).float()
    logits = ((vectors @ vectors.T).float() / _TEMPERATURE).masked_fill(same_product, -1e4).log_softmax(1)
    n_positives = is_positive.sum(1)
    has_positive = n_positives > 0
    if not bool(has_positive.any()):
        return vectors.sum() * 0
    return -((logits * is_positive).sum(1)[has_positive] / n_positives[has_positive]).mean()


class LabelLoss(nn.Module):
    """One linear head per label on the fused vector, scaled to unit variance."""

    name = "labels"
    targets: Tensor

    def __init__(self, targets: Tensor, sizes: Sequence[int], dim: int) -> None:
        """Create untrained heads.

        Args:
            targets: (n, K) int64, the value of each of K labels, -1 = not labelled.
            sizes: number of values of each label.
            dim: d, length of the vectors.
        """
        super().__init__()
        self.register_buffer("targets", targets, persistent=False)
        self.scale = dim**0.5
        self.heads = nn.ModuleList(nn.Linear(dim, size) for size in sizes)
        for weight in self.heads.parameters():
            nn.init.zeros_(weight)

    def logits(self, vectors: Tensor) -> list[Tensor]:
        """Return the logits of each label for (b, d) unit vectors: (b, values) each."""
        return [head(self.scale * vectors).float() for head in self.heads]

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean over the labels of cross-entropy plus contrastive loss of the labelled products: ()."""
        vectors = batch.encode_masked(model, g).embedding.vector
        rows = torch.from_numpy(batch.rows).to(self.targets.device)
        truth = self.targets[rows]
        losses = [
            F.cross_entropy(logits[labelled], truth[labelled, column])
            + _CONTRASTIVE_WEIGHT
            * supervised_contrastive_loss(vectors[labelled], truth[labelled, column], rows[labelled])
            for column, logits in enumerate(self.logits(vectors))
            if bool((labelled := truth[:, column] >= 0).any())
        ]
        return torch.stack(losses).mean() if losses else vectors.sum() * 0
