"""When to stop training the user encoder: newest purchases of some users, held back, judge it after every pass.

In: interactions, the objective that trains. Out: what is left to train on, how good the model is, the best weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.interactions import Histories, Interactions
from recsys.encoder.objectives.next_item import NextItemLoss
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.user_encoder import UserEncoder
from recsys.types import IntArray

_LOG = logging.getLogger(__name__)
METRIC: Final = "ndcg@10"
_AT: Final = 10
_SHARE: Final = 0.1
_FEWEST, _MOST = 100, 2000
_BLOCK: Final = 256
_FALL: Final = 0.25
_FALLS: Final = 2


@dataclass(frozen=True)
class ValidationHoldout:
    """The newest purchase of some users.

    Attributes:
        train: all events but those from that purchase on, of those users.
        histories: (b, t) what they did before it.
        targets: (b,) the product, new to the user.
        times: (b,) UTC seconds of the purchase.
    """

    train: Interactions
    histories: Histories
    targets: IntArray
    times: IntArray


def hold_out(interactions: Interactions, *, history: int, seed: int) -> ValidationHoldout | None:
    """Hold a tenth of the users' newest purchases back, at most 2,000; None where that would be too few to judge by.

    Users count whose newest purchase is new to them and comes after two other events or more, so that all of them
    stay in training.
    """
    # The last entry of each user among the purchases is the newest.
    at = np.flatnonzero(interactions.weight > 0)
    user, from_end = np.unique(interactions.user[at][::-1], return_index=True)
    newest = at[len(at) - 1 - from_end]
    item = np.full(interactions.n_users, -1, np.int64)
    item[user] = interactions.item[newest]
    again = np.bincount(interactions.user[interactions.item == item[interactions.user]], minlength=len(item))
    able = (newest - interactions.starts[user] >= 2) & (again[user] == 1)
    user, newest = user[able], newest[able]
    count = min(int(_SHARE * len(user)), _MOST)
    if count < _FEWEST:
        return None
    drawn = np.sort(np.random.default_rng((seed, 7)).choice(len(user), count, replace=False))
    user, newest = user[drawn], newest[drawn]
    limit = np.full(interactions.n_users, len(interactions), np.int64)
    limit[user] = newest
    train = interactions.where(np.arange(len(interactions)) < limit[interactions.user])
    return ValidationHoldout(
        train, train.histories(user, history), interactions.item[newest], interactions.time[newest]
    )


class NdcgEvaluator:
    """NDCG@10 of the purchases held back, ranked among all products anybody bought, those of the history left out."""

    def __init__(self, held: ValidationHoldout, objective: NextItemLoss) -> None:
        self._objective = objective
        self._parts = [
            torch.from_numpy(np.ascontiguousarray(part))
            for part in (
                held.histories.items,
                held.histories.times,
                held.histories.event_types,
                held.times,
                held.targets,
            )
        ]

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> float:
        """The mean over the users."""
        assert isinstance(model, UserEncoder)
        known = self._objective
        device = known.content.device
        vectors = model.ranking(known.content[known.bought], torch.arange(len(known.bought), device=device))
        gained = 0.0
        for start in range(0, len(self._parts[0]), _BLOCK):
            items, times, kinds, until, target = (part[start : start + _BLOCK].to(device) for part in self._parts)
            numbers = torch.where(items >= 0, known.numbers[items.clamp(min=0)], -1)
            real = numbers >= 0
            users = model(
                vectors[numbers.clamp(min=0)] * real[..., None],
                times=times,
                kinds=kinds,
                real=real,
                until=until[:, None].expand_as(times),
            )[:, -1]
            gained += _ndcg(users @ vectors.T, numbers, known.numbers[target])
        return gained / max(1, len(self._parts[0]))


def _ndcg(scores: Tensor, seen: Tensor, truth: Tensor) -> float:
    """Summed over users: scores (b, m), seen (b, t) with -1 for none, truth (b,); a tie counts against the truth."""
    row, column = (seen >= 0).nonzero(as_tuple=True)
    scores[row, seen[row, column]] = -torch.inf
    right = scores.gather(1, truth[:, None])
    place = (scores >= right).sum(1) - 1
    return float(torch.where(place < _AT, 1 / torch.log2(place.double() + 2), 0.0).sum())


@dataclass
class EarlyStopping:
    """Looks at the model every so many steps and keeps the best; slows down, and at last ends, what gains no more.

    Attributes:
        judge: the model to a number, more is better.
        every: steps from one look to the next.
        most: looks without a gain before the learning rate falls; when it has fallen twice, before it is enough.
        best: where the best weights are kept.
        looks: what was seen so far.
    """

    judge: Callable[[nn.Module], float]
    every: int
    most: int
    best: TrainingCheckpoint
    looks: list[float] = field(default_factory=list)

    def begin(self, looks: Sequence[float]) -> None:
        """Start, or go on after some looks."""
        self.looks = list(looks)

    def step(self, model: nn.Module, step: int) -> float | None:
        """How good the model is after this step; None when it is not time to look."""
        if step % self.every:
            return None
        found = self.judge(model)
        if found > max(self.looks, default=-math.inf):
            self.best.write(model, None, step)
        self.looks.append(found)
        return found

    @property
    def falls(self) -> int:
        """How often so many looks in a row were without a gain."""
        best, since, falls = -math.inf, 0, 0
        for value in self.looks:
            best, since = (value, 0) if value > best else (best, since + 1)
            if since == self.most:
                falls, since = falls + 1, 0
        return falls

    @property
    def rate(self) -> float:
        """What the learning rate is multiplied with."""
        return _FALL ** min(self.falls, _FALLS)

    @property
    def enough(self) -> bool:
        """Whether a smaller learning rate has not helped either."""
        return self.falls > _FALLS

    def restore(self, model: nn.Module) -> float | None:
        """Give the model its best weights and tell how good they were; None when nobody looked."""
        if not self.looks:
            return None
        step, _ = self.best.read(model, None)
        _LOG.info(
            "the user encoder is best after step %d: %s %.4f on purchases held back", step, METRIC, max(self.looks)
        )
        return max(self.looks)


class NoEarlyStopping:
    """Patience without end: nobody looks, all steps are made, the last weights are kept."""

    looks: Sequence[float] = ()
    rate = 1.0
    enough = False

    def begin(self, looks: Sequence[float]) -> None:
        """Nothing is to be remembered."""

    def step(self, model: nn.Module, step: int) -> None:
        """It is never time to look."""

    def restore(self, model: nn.Module) -> None:
        """The model keeps the weights it has."""
