"""When to stop training the user encoder: newest purchases of some users, held back, judge it after every pass.

In: interactions, the objective that trains. Out: what is left to train on, NDCG@10 of a moment, the best weights so far.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recsys.data.interactions import Histories, Interactions
from recsys.encoder.objectives.next_item import NextItem
from recsys.encoder.snapshot import Snapshot
from recsys.encoder.user import UserEncoder

_LOG = logging.getLogger(__name__)
METRIC: Final = "ndcg@10"
_AT: Final = 10
_SHARE: Final = 0.05
_FEWEST, _MOST = 100, 2000
_BLOCK: Final = 256


@dataclass(frozen=True)
class Held:
    """The newest purchase of some users.

    Attributes:
        train: all events but those from that purchase on, of those users.
        histories: (b, t) what they did before it.
        targets: (b,) the product, new to the user.
        times: (b,) UTC seconds of the purchase.
    """

    train: Interactions
    histories: Histories
    targets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]


def hold_back(interactions: Interactions, *, history: int, seed: int) -> Held | None:
    """Hold a twentieth of the users' newest purchases back, at most 2,000; None where that would be too few to judge by.

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
    return Held(train, train.histories(user, history), interactions.item[newest], interactions.time[newest])


class Judge:
    """NDCG@10 of the purchases held back, ranked among all products anybody bought, those of the history left out."""

    def __init__(self, held: Held, objective: NextItem) -> None:
        self._objective = objective
        self._parts = [
            torch.from_numpy(np.ascontiguousarray(part))
            for part in (held.histories.items, held.histories.times, held.histories.kinds, held.times, held.targets)
        ]

    @torch.inference_mode()
    def __call__(self, model: UserEncoder) -> float:
        """The mean over the users."""
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
class Patience:
    """Looks at the model every so many steps, keeps the best, and has enough when it gains no more.

    Attributes:
        judge: the model to a number, more is better.
        every: steps from one look to the next.
        looks: how many without a gain are enough.
        best: where the best weights are kept.
    """

    judge: Callable[[nn.Module], float]
    every: int
    looks: int
    best: Snapshot

    def begin(self, *, first: int) -> None:
        """Start, or go on from step `first`; the best of a training that went further is as good as found again."""
        if not first:
            self.best.remove()

    def look(self, model: nn.Module, step: int) -> tuple[float, bool] | None:
        """The number after this step and whether it is enough; None when it is not time to look."""
        if step % self.every:
            return None
        found = self.judge(model)
        at, value = self.best.mark()
        if at == 0 or found > value:
            self.best.write(model, None, step, value=found)
            at = step
        return found, step - at >= self.looks * self.every

    def restore(self, model: nn.Module) -> float | None:
        """Give the model its best weights and tell how good they were; None when nobody looked."""
        step, value = self.best.mark()
        if not step:
            return None
        self.best.read(model, None)
        _LOG.info("the user encoder is best after step %d: %s %.4f on purchases held back", step, METRIC, value)
        return value
