"""Next-item objective: predict a user's next purchase among all purchased products.

In: windows of users' events. Out: weighted cross-entropy.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.batches.users import UserTrainingBatch
from recsys.encoder.user_encoder import UserEncoder

_PAD_MULTIPLE: Final = 256
_EXCLUDED_SCORE: Final = -1e4


class NextItemLoss(nn.Module):
    """Softmax over the target and uniform negatives, sampled in each step (Klenitskiy & Vasilev 2023).

    The sum over the negatives is scaled to the sum over all products (Jean et al. 2015), so that the loss does not
    depend on their number. With `negatives` = 0, or at least as many as products, it is the full softmax. A product
    without purchases is never a negative: that would only teach the model that new products are not bought.
    """

    name = "next_item"
    content: Tensor
    numbers: Tensor
    bought: Tensor

    def __init__(self, content: Tensor, numbers: Tensor, *, id_dropout: float, negatives: int) -> None:
        """Store the product vectors.

        Args:
            content: (n, d) vectors of all products.
            numbers: (n,) index of the id residual of each product, -1 = never bought.
            id_dropout: probability that a residual is dropped.
            negatives: number sampled per step, shared by all targets of the step; 0 = all products.
        """
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("content", content, persistent=False)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("bought", (numbers >= 0).nonzero()[:, 0], persistent=False)
        self.negatives = 0 if negatives >= len(self.bought) else negatives

    def forward(self, model: UserEncoder, batch: UserTrainingBatch, g: torch.Generator) -> Tensor:
        """Return the mean cross-entropy of the targets, weighted by event: ()."""
        weight = batch.weights[:, 1:].flatten()
        if not bool((weight > 0).any()):
            return model.scale * 0
        # The number of a product is its position among the purchased ones: the encoder's `ids` are in that order.
        items = torch.where(batch.items >= 0, self.numbers[batch.items.clamp(min=0)], -1)
        negatives = self._sample_negatives(g).to(items.device)
        used, position = self._collect_used(items, negatives)
        keep = (torch.rand(len(used), generator=g) >= self.id_dropout).to(items.device)
        vectors = model.ranking(self.content[self.bought[used]], used, keep)
        targets = _pad((weight > 0).nonzero()[:, 0])
        weight = weight[targets] * (torch.arange(len(targets), device=targets.device) < (weight > 0).sum())
        real, truth = items[:, :-1] >= 0, items[:, 1:].flatten()[targets]
        states = model(
            F.embedding(position[items[:, :-1]], vectors),
            times=batch.times[:, :-1],
            kinds=batch.event_types[:, :-1],
            real=real,
            until=batch.times[:, 1:],
            g=g,
        )
        users = states.flatten(0, 1).index_select(0, targets)
        target_score = (users * F.embedding(position[truth], vectors)).sum(1).float()
        negative_score: Tensor = _LogSumExp.apply(
            users, vectors.index_select(0, position[negatives]), *_find_matches(truth, negatives)
        )
        # Each negative represents its share of all wrong products; without sampling, only itself.
        scale = (len(self.bought) - 1) / max(1, len(negatives) - (not self.negatives))
        negative_score = negative_score + math.log(scale)
        loss = torch.logaddexp(target_score, negative_score) - target_score
        mean: Tensor = (loss * weight).sum() / weight.sum()
        return mean

    def _collect_used(self, items: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sorted, padded numbers of the products of a step, and the position of each number."""
        is_used = torch.zeros(len(self.bought) + 1, dtype=torch.bool, device=items.device)
        is_used[items] = True
        is_used[negatives] = True
        is_used[-1] = False  # set by padding, number -1
        used = is_used.nonzero()[:, 0]
        position = torch.zeros(len(is_used), dtype=torch.int64, device=items.device)
        position[used] = torch.arange(len(used), device=items.device)
        return _pad(used), position

    def _sample_negatives(self, g: torch.Generator) -> Tensor:
        """Return the numbers of the negatives of a step."""
        total = len(self.bought)
        return torch.randint(total, (self.negatives,), generator=g) if self.negatives else torch.arange(total)


def _pad(rows: Tensor) -> Tensor:
    """Append zeros up to a multiple of `_PAD_MULTIPLE`: fast kernels are recompiled for each new size."""
    return F.pad(rows, (0, -len(rows) % _PAD_MULTIPLE))


def _find_matches(truth: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return index pairs where a negative is the target: few, so comparing all with all would be wasteful."""
    rows = torch.isin(truth, negatives).nonzero()[:, 0]
    row, column = (truth[rows][:, None] == negatives[None, :]).nonzero(as_tuple=True)
    return rows[row], column


class _LogSumExp(torch.autograd.Function):
    """Row-wise log-sum-exp of `a @ b.T` without some pairs; computes its gradient in one pass.

    A row without remaining pairs has a score near minus infinity and no gradient.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, row: Tensor, column: Tensor) -> Tensor:
        scores = a @ b.T
        scores[row, column] = _EXCLUDED_SCORE
        shares = scores.softmax(1, dtype=torch.float32)
        ctx.format = scores.dtype
        ctx.save_for_backward(a, b, shares, row, column)
        return scores.amax(1).float() - shares.amax(1).log()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None]:
        a, b, shares, row, column = ctx.saved_tensors
        grad_scores = (shares * grad_output[:, None]).to(ctx.format)
        grad_scores[row, column] = 0
        grad_a, grad_b = grad_scores @ b.to(ctx.format), grad_scores.T @ a.to(ctx.format)
        return grad_a.to(a.dtype), grad_b.to(b.dtype), None, None
