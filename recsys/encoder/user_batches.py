"""Batches of users to train on: windows of their events, each a pure function of seed and step.

In: interactions. Out: `UserTrainingBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.interactions import Interactions


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


class UserBatches:
    """Users with two events or more; of a long history a random window, every other time the newest."""

    def __init__(self, interactions: Interactions, *, history: int, size: int, seed: int) -> None:
        self.interactions, self.window, self.seed = interactions, history + 1, seed
        self.users = np.flatnonzero(np.diff(interactions.starts) >= 2)
        self.size = max(1, min(size, len(self.users)))
        self.steps_per_pass = -(-len(self.users) // self.size)

    def at(self, step: int) -> UserTrainingBatch:
        """The batch of a step: every user comes once in a pass."""
        u, log = len(self.users), self.interactions
        places = np.arange(step * self.size, (step + 1) * self.size)
        users = np.concatenate(
            [
                np.random.default_rng((self.seed, 2, int(turn))).permutation(self.users)[
                    places[places // u == turn] % u
                ]
                for turn in np.unique(places // u)
            ]
        )
        rng = np.random.default_rng((self.seed, 3, step))
        begin, end = log.starts[users], log.starts[users + 1]
        spare = np.maximum(end - begin - self.window, 0)
        end = end - np.where(
            rng.random(len(users)) < 0.5, 0, np.floor(rng.random(len(users)) * (spare + 1)).astype(np.int64)
        )
        at = end[:, None] - self.window + np.arange(self.window)
        real = at >= begin[:, None]
        at = np.where(real, at, 0)
        times = np.where(real, log.time[at], np.iinfo(np.int64).min)
        # Events of one moment have no order (a basket): any order will do, and a new one each time teaches more.
        order = np.lexsort((rng.random(at.shape), times), axis=1)
        at, real = np.take_along_axis(at, order, 1), np.take_along_axis(real, order, 1)
        items = np.where(real, log.item[at], -1)
        again = (np.tril(np.ones((self.window, self.window), bool), -1) & (items[:, :, None] == items[:, None, :])).any(
            2
        )
        weights = np.where(real & ~again, log.weight[at], 0).astype(np.float32)
        weights[:, 1:][~real[:, :-1]] = 0
        weights[:, 0] = 0
        return UserTrainingBatch(
            torch.from_numpy(items),
            torch.from_numpy(np.where(real, log.time[at], 0)),
            torch.from_numpy(np.where(real, log.kind[at], 0).astype(np.int64)),
            torch.from_numpy(weights),
        )
