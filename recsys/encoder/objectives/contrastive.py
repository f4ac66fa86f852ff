"""Tell the products of a batch apart: what all contrastive objectives share.

In: the same products in two views. Out: how badly each finds itself in the other, also by the first numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.types import BoolArray, IntArray

Alike = Callable[[IntArray, IntArray], BoolArray]
"""Rows of products (m,) and (k,) -> (m, k): which must not count as different."""
PairMask = Callable[[Tensor, Tensor], Tensor]
"""Inner products (m, m), the truth on the diagonal, and what is added to their logits -> () loss."""


@dataclass(frozen=True)
class ContrastiveView:
    """m products in one view: `vectors` (m, d) of unit length, `rows` (m,) their numbers in the catalogue."""

    vectors: Tensor
    rows: IntArray


def contrastive_loss(
    a: ContrastiveView,
    b: ContrastiveView,
    *,
    judge: PairMask,
    alike: Alike,
    less: Callable[[IntArray], Tensor] | None = None,
    lengths: Sequence[int] = (),
) -> Tensor:
    """How badly product i of `a` finds product i of `b` and not the others, by all numbers and by the first ones.

    All that is needed to know of a product beside its vector follows from its row, so that sides of several batches can
    be put together before they are judged. The mean over lengths is the loss of Matryoshka (Kusupati et al. 2022).

    Args:
        a: m products.
        b: m products, each belonging to that of the same place in `a`.
        judge: the loss of one table of inner products.
        alike: pairs that must not count as different; those that belong together always count.
        less: (k,) what is taken off the logits of products of `b`.
        lengths: numbers of a vector that must do alone too, each shorter than d.

    Returns:
        () mean of the losses; 0 for fewer than two products.
    """
    if len(a.rows) < 2:
        return (a.vectors.sum() + b.vectors.sum()) * 0
    same = alike(a.rows, b.rows)
    np.fill_diagonal(same, val=False)
    mask = torch.zeros(same.shape).masked_fill(torch.from_numpy(same), -torch.inf).to(a.vectors.device)
    if less is not None:
        mask = mask - less(b.rows).to(mask.device)
    losses = [judge(truncate(a.vectors, length) @ truncate(b.vectors, length).T, mask) for length in lengths]
    return torch.stack([*losses, judge(a.vectors @ b.vectors.T, mask)]).mean()


def truncate(vectors: Tensor, length: int) -> Tensor:
    """The first numbers of each vector, of unit length again: (m, d) -> (m, length)."""
    return F.normalize(vectors[:, :length], dim=1)


def same_product_mask(a: IntArray, b: IntArray) -> BoolArray:
    """Which products are one and the same: (m,) and (k,) -> (m, k)."""
    return np.equal.outer(a, b)


def infonce(inner: Tensor, mask: Tensor, *, scale: Tensor) -> Tensor:
    """Find b[i] by a[i] among all b (InfoNCE, van den Oord et al. 2018).

    Args:
        inner: (m, m) inner products, the truth on the diagonal.
        mask: (m, m) what is added to the logits; -inf = does not count.
        scale: () what inner products are multiplied with, the inverse of the temperature.

    Returns:
        () mean cross-entropy.
    """
    return F.cross_entropy(scale * inner.float() + mask, torch.arange(len(inner), device=inner.device))


def symmetric_infonce(inner: Tensor, mask: Tensor, *, scale: Tensor) -> Tensor:
    """Find b[i] by a[i] among all b, and back (CLIP, Radford et al. 2021); arguments and result as `infonce`."""
    return (infonce(inner, mask, scale=scale) + infonce(inner.T, mask.T, scale=scale)) / 2


def sigmoid(inner: Tensor, mask: Tensor, *, scale: Tensor, bias: Tensor) -> Tensor:
    """Say of each pair by itself whether it belongs together (SigLIP, Zhai et al. 2023).

    Args:
        inner: (m, m) inner products, the truth on the diagonal.
        mask: (m, m) what is added to the logits; -inf = does not count.
        scale: () what inner products are multiplied with.
        bias: () added to all logits: far below 0 at first, for nearly all pairs do not belong together.

    Returns:
        () sum of the log losses of all pairs, divided by m.
    """
    logits = scale * inner.float() + bias + mask
    truth = torch.eye(len(inner), dtype=torch.bool, device=inner.device)
    return -F.logsigmoid(torch.where(truth, logits, -logits)).sum() / len(inner)
