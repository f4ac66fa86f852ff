"""Be like a larger encoder: see the same products as alike, and by any view what the teacher sees by all there is.

In: products, the teacher's vectors of all of them. Out: how far the student's views are from those.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder

_TEMPERATURE = 0.1
_NOTHING = -1e4


def similarity_distribution_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, same: Tensor
) -> Tensor:
    """How differently two encoders spread a product's likeness over others (SEED: Fang et al. 2021; CompRess, 2020).

    Args:
        student: (m, d) unit vectors by one view, and (b, d) those of the products they are compared with.
        teacher: (m, e) and (b, e) of the same products; e may differ from d.
        same: (m, b) bool, pairs of one and the same product, which are left out.

    Returns:
        () mean Kullback-Leibler divergence from the teacher's softmax over the others to the student's.
    """
    found, wanted = (
        ((asked @ others.T).float() / _TEMPERATURE).masked_fill(same, _NOTHING).log_softmax(1)
        for asked, others in (student, teacher)
    )
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True)


class DistillationLoss(nn.Module):
    """Relations to the other products of the batch, for vectors of any length; of the same length also the cosine."""

    name = "teacher"
    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        """Keep the teacher's (n, e) unit vectors of all products."""
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Mean over the views (text alone, picture alone, all there is): ()."""
        present = batch.present(model)
        text, image = batch.alone(model, g, "text").vector, batch.alone(model, g, "image").vector
        whole = batch.whole(model, g).encoded.vector
        views = [(text, present["text"]), (image, present["image"]), (whole, torch.ones_like(present["text"]))]
        rows = torch.from_numpy(batch.rows).to(whole.device)
        wanted, same = self.vectors[rows], rows[:, None] == rows[None, :]
        losses = []
        for vectors, has in views:
            # a product that stands alone in the batch has no relations
            asked = has & ~same.all(1)
            if not bool(asked.any()):
                continue
            loss = similarity_distribution_loss((vectors[asked], whole), (wanted[asked], wanted), same=same[asked])
            if wanted.shape[1] == vectors.shape[1]:
                loss = loss + (1 - (vectors[asked] * wanted[asked]).sum(1)).float().mean()
            losses.append(loss)
        return torch.stack(losses).mean() if losses else whole.sum() * 0
