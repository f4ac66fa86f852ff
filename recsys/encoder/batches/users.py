"""Batches of users to train on: windows of their events, each a pure function of seed and step.

In: interactions. Out: `UserTrainingBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.interactions import Interactions
from recsys.types import IntArray

_POOL = 16
"""Batches that are sorted by length together: enough for like lengths, few enough for new company in each pass."""


@dataclass(frozen=True)
class UserTrainingBatch:
    """Windows of b users, newest last, padded in front.

    Attributes:
        items: (b, t + 1) int64 product rows, -1 = none.
        times: (b, t + 1) int64 UTC seconds.
        kinds: (b, t + 1) int64 event codes.
        weights: (b, t + 1) float32, what guessing an event is worth: 0 for padding, returns, the first event, and a
            product that came before in the window (repeats are the repurchase source's business).
    """

    items: Tensor
    times: Tensor
    kinds: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device) -> UserTrainingBatch:
        """The same on a device."""
        return UserTrainingBatch(*(part.to(device) for part in (self.items, self.times, self.kinds, self.weights)))


class UserBatchLoader:
    """Users with two events or more; of a long history a random window, every other time the newest.

    Users of like length share a batch, which is as wide as its longest window: little of it is padding.
    """

    def __init__(self, interactions: Interactions, *, history: int, size: int, seed: int) -> None:
        self.interactions, self.window, self.seed = interactions, history + 1, seed
        self.users = np.flatnonzero(np.diff(interactions.starts) >= 2)
        self.size = max(1, min(size, len(self.users)))
        self.steps_per_pass = -(-len(self.users) // self.size)
        self._pass: tuple[int, list[IntArray]] = (-1, [])

    def at(self, step: int) -> UserTrainingBatch:
        """The batch of a step: every user comes once in a pass."""
        turn, place = divmod(step, self.steps_per_pass)
        if self._pass[0] != turn:
            self._pass = (turn, self._planned(turn))
        return self._batch(self._pass[1][place], np.random.default_rng((self.seed, 3, step)))

    def _planned(self, turn: int) -> list[IntArray]:
        """The users of each batch of a pass: drawn, sorted by length within pools of many batches, batches drawn."""
        g = np.random.default_rng((self.seed, 2, turn))
        users = g.permutation(self.users)
        lengths = np.minimum(np.diff(self.interactions.starts)[users], self.window)
        pool = np.arange(len(users)) // (_POOL * self.size)
        users = users[np.lexsort((lengths, pool))]
        batches = [users[start : start + self.size] for start in range(0, len(users), self.size)]
        return [batches[at] for at in g.permutation(len(batches)).tolist()]

    def _batch(self, users: IntArray, rng: np.random.Generator) -> UserTrainingBatch:
        log = self.interactions
        begin, end = log.starts[users], log.starts[users + 1]
        window = int(min(self.window, (end - begin).max()))
        spare = np.maximum(end - begin - window, 0)
        end = end - np.where(
            rng.random(len(users)) < 0.5, 0, np.floor(rng.random(len(users)) * (spare + 1)).astype(np.int64)
        )
        at = end[:, None] - window + np.arange(window)
        real = at >= begin[:, None]
        at = np.where(real, at, 0)
        times = np.where(real, log.time[at], np.iinfo(np.int64).min)
        # Events of one moment have no order (a basket): any order will do, and a new one each time teaches more.
        order = np.lexsort((rng.random(at.shape), times), axis=1)
        at, real = np.take_along_axis(at, order, 1), np.take_along_axis(real, order, 1)
        items = np.where(real, log.item[at], -1)
        again = (np.tril(np.ones((window, window), bool), -1) & (items[:, :, None] == items[:, None, :])).any(2)
        weights = np.where(real & ~again, log.weight[at], 0).astype(np.float32)
        weights[:, 1:][~real[:, :-1]] = 0
        weights[:, 0] = 0
        return UserTrainingBatch(
            torch.from_numpy(items),
            torch.from_numpy(np.where(real, log.time[at], 0)),
            torch.from_numpy(np.where(real, log.event_type[at], 0).astype(np.int64)),
            torch.from_numpy(weights),
        )
