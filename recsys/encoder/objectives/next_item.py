"""Guess a user's next purchase among products that were bought.

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

_MULTIPLE: Final = 256
_NOTHING: Final = -1e4


class NextItemLoss(nn.Module):
    """Softmax over the truth and uniform negatives drawn anew in each step (Klenitskiy & Vasilev 2023).

    The sum over the negatives stands for that over all products (Jean et al. 2015), so that the loss does not depend
    on how many are drawn. With as many negatives as products or none asked for, it is the full softmax. A product
    nobody bought is never a wrong answer: it could only teach that new products are not bought.
    """

    name = "next_item"
    content: Tensor
    numbers: Tensor
    bought: Tensor

    def __init__(self, content: Tensor, numbers: Tensor, *, id_dropout: float, negatives: int) -> None:
        """Keep the products.

        Args:
            content: (n, d) vectors of all products.
            numbers: (n,) place of their residual, -1 = never bought.
            id_dropout: chance that a residual is left out.
            negatives: drawn in each step, shared by its guesses; 0 = all products.
        """
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("content", content, persistent=False)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("bought", (numbers >= 0).nonzero()[:, 0], persistent=False)
        self.negatives = 0 if negatives >= len(self.bought) else negatives

    def forward(self, model: UserEncoder, batch: UserTrainingBatch, g: torch.Generator) -> Tensor:
        """Mean over the guesses, each weighted with what its event is worth: ()."""
        weight = batch.weights[:, 1:].flatten()
        if not bool((weight > 0).any()):
            return model.scale * 0
        # A product's number is its position among the bought ones: the encoder's `ids` are in that order.
        items = torch.where(batch.items >= 0, self.numbers[batch.items.clamp(min=0)], -1)
        wrong = self._wrong(g).to(items.device)
        needed, spot = self._needed(items, wrong)
        keep = (torch.rand(len(needed), generator=g) >= self.id_dropout).to(items.device)
        vectors = model.ranking(self.content[self.bought[needed]], needed, keep)
        asked = _filled((weight > 0).nonzero()[:, 0])
        weight = weight[asked] * (torch.arange(len(asked), device=asked.device) < (weight > 0).sum())
        real, truth = items[:, :-1] >= 0, items[:, 1:].flatten()[asked]
        states = model(
            F.embedding(spot[items[:, :-1]], vectors),
            times=batch.times[:, :-1],
            kinds=batch.kinds[:, :-1],
            real=real,
            until=batch.times[:, 1:],
            g=g,
        )
        users = states.flatten(0, 1).index_select(0, asked)
        right = (users * F.embedding(spot[truth], vectors)).sum(1).float()
        others: Tensor = _LogSumExp.apply(users, vectors.index_select(0, spot[wrong]), *_matches(truth, wrong))
        # Each negative stands for its share of all wrong products; without sampling for itself.
        others = others + math.log((len(self.bought) - 1) / max(1, len(wrong) - (not self.negatives)))
        loss = torch.logaddexp(right, others) - right
        mean: Tensor = (loss * weight).sum() / weight.sum()
        return mean

    def _needed(self, items: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the products of a step in order, filled up, and the place of each number among them."""
        used = torch.zeros(len(self.bought) + 1, dtype=torch.bool, device=items.device)
        used[items] = True
        used[wrong] = True
        used[-1] = False  # where padding, number -1, has left its mark
        needed = used.nonzero()[:, 0]
        spot = torch.zeros(len(used), dtype=torch.int64, device=items.device)
        spot[needed] = torch.arange(len(needed), device=items.device)
        return _filled(needed), spot

    def _wrong(self, g: torch.Generator) -> Tensor:
        """Numbers of the negatives of a step."""
        total = len(self.bought)
        return torch.randint(total, (self.negatives,), generator=g) if self.negatives else torch.arange(total)


def _filled(rows: Tensor) -> Tensor:
    """As many zeros behind as make the length a multiple: fast kernels are compiled anew for each size they meet."""
    return F.pad(rows, (0, -len(rows) % _MULTIPLE))


def _matches(truth: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of places where a negative is the truth: few, so that comparing all with all would be a waste."""
    rows = torch.isin(truth, wrong).nonzero()[:, 0]
    row, column = (truth[rows][:, None] == wrong[None, :]).nonzero(as_tuple=True)
    return rows[row], column


class _LogSumExp(torch.autograd.Function):
    """Logarithm of the summed exponentials of `a @ b.T` by row, some pairs left out; its gradient in one pass.

    A row of which nothing is left counts as next to nothing and has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, row: Tensor, column: Tensor) -> Tensor:
        scores = a @ b.T
        scores[row, column] = _NOTHING
        shares = scores.softmax(1, dtype=torch.float32)
        ctx.format = scores.dtype
        ctx.save_for_backward(a, b, shares, row, column)
        return scores.amax(1).float() - shares.amax(1).log()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None]:
        a, b, shares, row, column = ctx.saved_tensors
        grown = (shares * above[:, None]).to(ctx.format)
        grown[row, column] = 0
        to_a, to_b = grown @ b.to(ctx.format), grown.T @ a.to(ctx.format)
        return to_a.to(a.dtype), to_b.to(b.dtype), None, None
