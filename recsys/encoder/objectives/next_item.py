"""Guess a user's next purchase among all products that were ever bought.

In: windows of users' events. Out: weighted cross-entropy.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.encoder.user import UserEncoder
from recsys.encoder.user_batches import UserTrainingBatch

FULL: Final = 50_000
"""Bought products up to which every one is a wrong answer in every step."""
_NEGATIVES: Final = 1024


class NextItem(nn.Module):
    """Full softmax over the bought products, sampled with 1,024 uniform negatives where they are too many.

    A product nobody bought is never a wrong answer: it could only teach that new products are not bought.
    """

    name = "next_item"
    content: Tensor
    numbers: Tensor
    bought: Tensor

    def __init__(self, content: Tensor, numbers: Tensor, *, id_dropout: float) -> None:
        """`content` (n, d) vectors of all products, `numbers` (n,) the place of their residual, -1 = never bought."""
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("content", content, persistent=False)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("bought", (numbers >= 0).nonzero()[:, 0], persistent=False)

    def forward(self, model: UserEncoder, batch: UserTrainingBatch, g: torch.Generator) -> Tensor:
        """Mean over the guesses, each weighted with what its event is worth: ()."""
        asked = batch.weights[:, 1:] > 0
        if not bool(asked.any()):
            return model.scale * 0
        # A product's number is its position among the bought ones: the encoder's `ids` are in that order.
        items = torch.where(batch.items >= 0, self.numbers[batch.items.clamp(min=0)], -1)
        truth = items[:, 1:][asked]
        needed, place = self._needed(items, g)
        keep = (torch.rand(len(self.bought), generator=g) >= self.id_dropout).to(truth.device)[needed]
        vectors = model.ranking(self.content[self.bought[needed]], needed, keep)
        inputs = items[:, :-1]
        users = model(
            vectors[place[inputs.clamp(min=0)]] * (inputs >= 0)[..., None],
            times=batch.times[:, :-1],
            kinds=batch.kinds[:, :-1],
            real=inputs >= 0,
            until=batch.times[:, 1:],
            g=g,
        )[asked]
        loss = F.cross_entropy((users @ vectors.T).float(), place[truth], reduction="none")
        weight = batch.weights[:, 1:][asked]
        return (loss * weight).sum() / weight.sum()

    def _needed(self, items: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Numbers of the products that take part in a step, ascending, and where each number stands among them."""
        total = len(self.bought)
        if total <= FULL:
            every = torch.arange(total, device=items.device)
            return every, every
        drawn = torch.randint(total, (_NEGATIVES,), generator=g).to(items.device)
        needed = torch.unique(torch.cat([items[items >= 0], drawn]))
        place = torch.zeros(total, dtype=torch.int64, device=items.device)
        place[needed] = torch.arange(len(needed), device=items.device)
        return needed, place
