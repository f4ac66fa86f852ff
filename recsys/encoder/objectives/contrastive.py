"""Contrastive losses within a batch, shared by all contrastive objectives.

In: the same products in two views. Out: the loss of matching the views, also for prefixes of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.types import BoolArray, IntArray

ExclusionMask = Callable[[IntArray, IntArray], BoolArray]
"""Maps rows of products (m,) and (k,) to (m, k) bool: pairs that must not count as negatives."""
MatrixLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps inner products (m, m), the positives on the diagonal, and a mask added to their logits to a () loss."""


@dataclass(frozen=True)
class ContrastiveView:
    """m products in one view: `vectors` (m, d) of unit length, `rows` (m,) their rows in the catalogue."""

    vectors: Tensor
    rows: IntArray


def contrastive_loss(
    a: ContrastiveView,
    b: ContrastiveView,
    *,
    matrix_loss: MatrixLoss,
    excluded_pairs: ExclusionMask,
    logit_correction: Callable[[IntArray], Tensor] | None = None,
    prefix_lengths: Sequence[int] = (),
) -> Tensor:
    """Compute the loss of matching product i of `a` and of `b`, by full vectors and by their prefixes.

    Everything else about a product follows from its row, so that views of several batches can be concatenated before
    the loss is computed. The mean over lengths is the Matryoshka loss (Kusupati et al. 2022).

    Args:
        a: m products.
        b: m products, each the positive of the one at the same index in `a`.
        matrix_loss: the loss of one matrix of inner products.
        excluded_pairs: pairs that must not count as negatives; positives always count.
        logit_correction: (k,) subtracted from the logits of products of `b`.
        prefix_lengths: prefix lengths at which a vector must also work, each shorter than d.

    Returns:
        () mean of the losses; 0 for fewer than two products.
    """
    if len(a.rows) < 2:
        return (a.vectors.sum() + b.vectors.sum()) * 0
    excluded = excluded_pairs(a.rows, b.rows)
    np.fill_diagonal(excluded, val=False)
    mask = torch.zeros(excluded.shape).masked_fill(torch.from_numpy(excluded), -torch.inf).to(a.vectors.device)
    if logit_correction is not None:
        mask = mask - logit_correction(b.rows).to(mask.device)
    losses = [
        matrix_loss(truncate(a.vectors, length) @ truncate(b.vectors, length).T, mask) for length in prefix_lengths
    ]
    return torch.stack([*losses, matrix_loss(a.vectors @ b.vectors.T, mask)]).mean()


def truncate(vectors: Tensor, length: int) -> Tensor:
    """Return the first `length` dimensions of each vector, normalised: (m, d) -> (m, length)."""
    return F.normalize(vectors[:, :length], dim=1)


def same_product_mask(a: IntArray, b: IntArray) -> BoolArray:
    """Mark pairs of the same product: (m,) and (k,) -> (m, k)."""
    return np.equal.outer(a, b)


def infonce(inner: Tensor, mask: Tensor, *, scale: Tensor) -> Tensor:
    """Compute the cross-entropy of finding b[i] by a[i] among all b (InfoNCE, van den Oord et al. 2018).

    Args:
        inner: (m, m) inner products, the positives on the diagonal.
        mask: (m, m) added to the logits; -inf = excluded.
        scale: () factor of the inner products, the inverse temperature.

    Returns:
        () mean cross-entropy.
    """
    return F.cross_entropy(scale * inner.float() + mask, torch.arange(len(inner), device=inner.device))


def symmetric_infonce(inner: Tensor, mask: Tensor, *, scale: Tensor) -> Tensor:
    """Average `infonce` over both directions (CLIP, Radford et al. 2021); arguments as `infonce`."""
    return (infonce(inner, mask, scale=scale) + infonce(inner.T, mask.T, scale=scale)) / 2


def sigmoid_loss(inner: Tensor, mask: Tensor, *, scale: Tensor, bias: Tensor) -> Tensor:
    """Classify each pair independently as positive or negative (SigLIP, Zhai et al. 2023).

    Args:
        inner: (m, m) inner products, the positives on the diagonal.
        mask: (m, m) added to the logits; -inf = excluded.
        scale: () factor of the inner products.
        bias: () added to all logits: initially far below 0, because nearly all pairs are negatives.

    Returns:
        () sum of the log losses of all pairs, divided by m.
    """
    logits = scale * inner.float() + bias + mask
    is_positive = torch.eye(len(inner), dtype=torch.bool, device=inner.device)
    return -F.logsigmoid(torch.where(is_positive, logits, -logits)).sum() / len(inner)
