"""Training batches of users: windows of their events, each batch a pure function of seed and step.

In: interactions. Out: `UserTrainingBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.interactions import Interactions
from recsys.types import IntArray

_POOL_BATCHES = 16
"""Batches that are sorted by length together: enough for similar lengths, few enough for new batches in each pass."""


@dataclass(frozen=True)
class UserTrainingBatch:
    """Event windows of b users, newest last, padded in front.

    Attributes:
        items: (b, t + 1) int64 product rows, -1 = none.
        times: (b, t + 1) int64 UTC seconds.
        event_types: (b, t + 1) int64 event codes.
        weights: (b, t + 1) float32, weight of an event as prediction target: 0 for padding, returns, the first event,
            and a product that occurs earlier in the window (the repurchase source covers repeats).
    """

    items: Tensor
    times: Tensor
    event_types: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device) -> UserTrainingBatch:
        """Return the batch on a device."""
        return UserTrainingBatch(
            *(part.to(device) for part in (self.items, self.times, self.event_types, self.weights))
        )


class UserBatchLoader:
    """Batches of users with at least two events.

    Of a long history the batch has the newest or a random window, with equal probability. Users with histories of
    similar length share a batch, which is as wide as its longest window, so padding is rare.
    """

    def __init__(self, interactions: Interactions, *, history_length: int, batch_size: int, seed: int) -> None:
        self.interactions, self.window, self.seed = interactions, history_length + 1, seed
        self.users = np.flatnonzero(np.diff(interactions.starts) >= 2)
        self.batch_size = max(1, min(batch_size, len(self.users)))
        self.steps_per_epoch = -(-len(self.users) // self.batch_size)
        self._epoch: tuple[int, list[IntArray]] = (-1, [])

    def get_batch(self, step: int) -> UserTrainingBatch:
        """Return the batch of a step: every user occurs once per pass."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._plan_epoch(epoch))
        return self._build_batch(self._epoch[1][position], np.random.default_rng((self.seed, 3, step)))

    def _plan_epoch(self, epoch: int) -> list[IntArray]:
        """Return the users of each batch: shuffled, sorted by length within pools, batches shuffled."""
        g = np.random.default_rng((self.seed, 2, epoch))
        users = g.permutation(self.users)
        lengths = np.minimum(np.diff(self.interactions.starts)[users], self.window)
        pool = np.arange(len(users)) // (_POOL_BATCHES * self.batch_size)
        users = users[np.lexsort((lengths, pool))]
        batches = [users[start : start + self.batch_size] for start in range(0, len(users), self.batch_size)]
        return [batches[i] for i in g.permutation(len(batches)).tolist()]

    def _build_batch(self, users: IntArray, rng: np.random.Generator) -> UserTrainingBatch:
        log = self.interactions
        begin, end = log.starts[users], log.starts[users + 1]
        window = int(min(self.window, (end - begin).max()))
        excess = np.maximum(end - begin - window, 0)
        end = end - np.where(
            rng.random(len(users)) < 0.5, 0, np.floor(rng.random(len(users)) * (excess + 1)).astype(np.int64)
        )
        events = end[:, None] - window + np.arange(window)
        real = events >= begin[:, None]
        events = np.where(real, events, 0)
        times = np.where(real, log.time[events], np.iinfo(np.int64).min)
        # Events of one moment (a basket) have no order; a new random order each time is data augmentation.
        order = np.lexsort((rng.random(events.shape), times), axis=1)
        events, real = np.take_along_axis(events, order, 1), np.take_along_axis(real, order, 1)
        items = np.where(real, log.item[events], -1)
        repeats = (np.tril(np.ones((window, window), bool), -1) & (items[:, :, None] == items[:, None, :])).any(2)
        weights = np.where(real & ~repeats, log.weight[events], 0).astype(np.float32)
        weights[:, 1:][~real[:, :-1]] = 0
        weights[:, 0] = 0
        return UserTrainingBatch(
            torch.from_numpy(items),
            torch.from_numpy(np.where(real, log.time[events], 0)),
            torch.from_numpy(np.where(real, log.event_type[events], 0).astype(np.int64)),
            torch.from_numpy(weights),
        )
