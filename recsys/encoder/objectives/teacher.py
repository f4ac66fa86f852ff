"""Distillation objective: reproduce the teacher's product similarities from every view of the student.

In: products, the teacher's vectors of all of them. Out: divergence of the student's views from the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.product_encoder import ProductEncoder

_TEMPERATURE = 0.1
_EXCLUDED_SCORE = -1e4


def similarity_distribution_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, same: Tensor
) -> Tensor:
    """Compare two encoders' similarity distributions over products (SEED, Fang et al. 2021; CompRess, 2020).

    Args:
        student: (m, d) unit vectors of one view, and (b, d) vectors of the products to compare with.
        teacher: (m, e) and (b, e) of the same products; e may differ from d.
        same: (m, b) bool, pairs of the same product, which are excluded.

    Returns:
        () mean Kullback-Leibler divergence from the teacher's softmax over the others to the student's.
    """
    student_log, teacher_log = (
        ((queries @ keys.T).float() / _TEMPERATURE).masked_fill(same, _EXCLUDED_SCORE).log_softmax(1)
        for queries, keys in (student, teacher)
    )
    return F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


class DistillationLoss(nn.Module):
    """Divergence of the similarities within a batch; for vectors of equal length also the cosine."""

    name = "teacher"
    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        """Store the teacher's (n, e) unit vectors of all products."""
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, model: ProductEncoder, batch: ProductBatch, g: torch.Generator) -> Tensor:
        """Return the mean loss over the views (text alone, image alone, all modalities): ()."""
        present = batch.present(model)
        text, image = batch.encode_modality(model, g, "text").vector, batch.encode_modality(model, g, "image").vector
        whole = batch.encode_masked(model, g).embedding.vector
        views = [(text, present["text"]), (image, present["image"]), (whole, torch.ones_like(present["text"]))]
        rows = torch.from_numpy(batch.rows).to(whole.device)
        target, same = self.vectors[rows], rows[:, None] == rows[None, :]
        losses = []
        for vectors, has in views:
            # a product without other products in the batch has no similarities
            used = has & ~same.all(1)
            if not bool(used.any()):
                continue
            loss = similarity_distribution_loss((vectors[used], whole), (target[used], target), same=same[used])
            if target.shape[1] == vectors.shape[1]:
                loss = loss + (1 - (vectors[used] * target[used]).sum(1)).float().mean()
            losses.append(loss)
        return torch.stack(losses).mean() if losses else whole.sum() * 0
