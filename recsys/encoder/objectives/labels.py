"""Guess the labels that people gave to some of the products.

In: products, a few of them labelled. Out: cross-entropy of the labels, and how far apart products of one value are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder

_TEMPERATURE = 0.1
_GATHER = 0.5
"""Weight of the contrast beside the cross-entropy: with few labels it lifts heads and neighbours by about a point."""


def supervised_contrastive_loss(vectors: Tensor, truth: Tensor, rows: Tensor) -> Tensor:
    """Bring products of one value together, apart from the others (supervised contrast, Khosla et al. 2020).

    Args:
        vectors: (m, d) unit vectors.
        truth: (m,) value of each.
        rows: (m,) product of each; one and the same is neither like nor unlike itself.

    Returns:
        () mean over the products that share their value with another; 0 when none does.
    """
    same = rows[:, None] == rows[None, :]
    share = ((truth[:, None] == truth[None, :]) & ~same).float()
    logits = ((vectors @ vectors.T).float() / _TEMPERATURE).masked_fill(same, -1e4).log_softmax(1)
    like = share.sum(1)
    held = like > 0
    if not bool(held.any()):
        return vectors.sum() * 0
    return -((logits * share).sum(1)[held] / like[held]).mean()


class LabelLoss(nn.Module):
    """A linear head a label on the fused vector, which is brought to unit variance first."""

    name = "labels"
    targets: Tensor

    def __init__(self, targets: Tensor, sizes: Sequence[int], dim: int) -> None:
        """Keep the truth.

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
        """Of (b, d) unit vectors the logits of each label: (b, values) each."""
        return [head(self.scale * vectors).float() for head in self.heads]

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean over the labels of cross-entropy and contrast among the labelled products: ()."""
        vectors = batch.whole(model, g).encoded.vector
        rows = torch.from_numpy(batch.rows).to(self.targets.device)
        truth = self.targets[rows]
        losses = [
            F.cross_entropy(logits[held], truth[held, at])
            + _GATHER * supervised_contrastive_loss(vectors[held], truth[held, at], rows[held])
            for at, logits in enumerate(self.logits(vectors))
            if bool((held := truth[:, at] >= 0).any())
        ]
        return torch.stack(losses).mean() if losses else vectors.sum() * 0
