"""Guess a user's next purchase among products that were bought.

In: windows of users' events. Out: weighted cross-entropy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recsys.encoder.user import UserEncoder
from recsys.encoder.user_batches import UserTrainingBatch


class NextItem(nn.Module):
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
        asked = batch.weights[:, 1:] > 0
        if not bool(asked.any()):
            return model.scale * 0
        # A product's number is its position among the bought ones: the encoder's `ids` are in that order.
        items = torch.where(batch.items >= 0, self.numbers[batch.items.clamp(min=0)], -1)
        wrong = self._wrong(g).to(items.device)
        needed, place = torch.unique(torch.cat([items[items >= 0], wrong]), return_inverse=True)
        spot = torch.zeros_like(items)
        spot[items >= 0] = place[: len(place) - len(wrong)]
        keep = (torch.rand(len(self.bought), generator=g) >= self.id_dropout).to(items.device)[needed]
        vectors = model.ranking(self.content[self.bought[needed]], needed, keep)
        real = items[:, :-1] >= 0
        users = model(
            vectors[spot[:, :-1]] * real[..., None],
            times=batch.times[:, :-1],
            kinds=batch.kinds[:, :-1],
            real=real,
            until=batch.times[:, 1:],
            g=g,
        )[asked]
        truth = items[:, 1:][asked]
        right = (users * vectors[spot[:, 1:][asked]]).sum(1).float()
        others = (users @ vectors[place[len(place) - len(wrong) :]].T).float()
        others = others.masked_fill(truth[:, None] == wrong[None, :], -torch.inf)
        # Each negative stands for its share of all wrong products; without sampling for itself.
        others = others + math.log((len(self.bought) - 1) / max(1, len(wrong) - (not self.negatives)))
        loss = torch.logaddexp(right, others.logsumexp(1)) - right
        weight = batch.weights[:, 1:][asked]
        mean: Tensor = (loss * weight).sum() / weight.sum()
        return mean

    def _wrong(self, g: torch.Generator) -> Tensor:
        """Numbers of the negatives of a step."""
        total = len(self.bought)
        return torch.randint(total, (self.negatives,), generator=g) if self.negatives else torch.arange(total)
