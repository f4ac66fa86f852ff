"""Guess the labels that people gave to some of the products.

In: products, a few of them labelled. Out: cross-entropy of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches import ProductBatch
from recsys.encoder.product import ProductEncoder


class Labels(nn.Module):
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

    def answers(self, vectors: Tensor) -> list[Tensor]:
        """Of (b, d) unit vectors the logits of each label: (b, values) each."""
        return [head(self.scale * vectors).float() for head in self.heads]

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean over the labels of the mean cross-entropy of the labelled products: ()."""
        vectors = batch.whole(model, g).encoded.vector
        truth = self.targets[torch.from_numpy(batch.rows).to(self.targets.device)]
        losses = [
            F.cross_entropy(logits[held], truth[held, at])
            for at, logits in enumerate(self.answers(vectors))
            if bool((held := truth[:, at] >= 0).any())
        ]
        return torch.stack(losses).mean() if losses else vectors.sum() * 0
