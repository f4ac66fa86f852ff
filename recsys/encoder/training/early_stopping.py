"""Early stopping of the user encoder on held-out purchases: the newest ones of some users.

In: interactions, the training objective. Out: the remaining training events, a validation score per pass, the best
weights.
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
_TOP_K: Final = 10
_USER_SHARE: Final = 0.1
_MIN_USERS, _MAX_USERS = 100, 2000
_BATCH_SIZE: Final = 256
_REDUCTION: Final = 0.25
"""Factor of each reduction of the learning rate."""
_MAX_REDUCTIONS: Final = 2


@dataclass(frozen=True)
class ValidationHoldout:
    """The newest purchases of some users, held out for validation.

    Attributes:
        train: all events without those from the held-out purchase on, of the held-out users.
        histories: (b, t) events of these users before it.
        targets: (b,) the purchased product, new to the user.
        times: (b,) UTC seconds of the purchase.
    """

    train: Interactions
    histories: Histories
    targets: IntArray
    times: IntArray


def hold_out(interactions: Interactions, *, history_length: int, seed: int) -> ValidationHoldout | None:
    """Hold out the newest purchases of a tenth of the users, at most 2,000; None if those are too few.

    Only users whose newest purchase is a new product after at least two other events are eligible, so that all of
    them stay in training.
    """
    # The last entry of each user among the purchases is the newest.
    purchases = np.flatnonzero(interactions.weight > 0)
    user, from_end = np.unique(interactions.user[purchases][::-1], return_index=True)
    newest = purchases[len(purchases) - 1 - from_end]
    item = np.full(interactions.n_users, -1, np.int64)
    item[user] = interactions.item[newest]
    repeats = np.bincount(interactions.user[interactions.item == item[interactions.user]], minlength=len(item))
    eligible = (newest - interactions.starts[user] >= 2) & (repeats[user] == 1)
    user, newest = user[eligible], newest[eligible]
    count = min(int(_USER_SHARE * len(user)), _MAX_USERS)
    if count < _MIN_USERS:
        return None
    sample = np.sort(np.random.default_rng((seed, 7)).choice(len(user), count, replace=False))
    user, newest = user[sample], newest[sample]
    end = np.full(interactions.n_users, len(interactions), np.int64)
    end[user] = newest
    train = interactions.where(np.arange(len(interactions)) < end[interactions.user])
    return ValidationHoldout(
        train, train.histories(user, history_length), interactions.item[newest], interactions.time[newest]
    )


class NdcgEvaluator:
    """NDCG@10 of the held-out purchases among all purchased products, without those of the user's history."""

    def __init__(self, holdout: ValidationHoldout, objective: NextItemLoss) -> None:
        self._objective = objective
        self._arrays = [
            torch.from_numpy(np.ascontiguousarray(array))
            for array in (
                holdout.histories.items,
                holdout.histories.times,
                holdout.histories.event_types,
                holdout.times,
                holdout.targets,
            )
        ]

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> float:
        """Return the mean NDCG over the held-out users."""
        assert isinstance(model, UserEncoder)
        objective = self._objective
        device = objective.content.device
        vectors = model.ranking(objective.content[objective.bought], torch.arange(len(objective.bought), device=device))
        total = 0.0
        for start in range(0, len(self._arrays[0]), _BATCH_SIZE):
            items, times, kinds, until, target = (
                array[start : start + _BATCH_SIZE].to(device) for array in self._arrays
            )
            numbers = torch.where(items >= 0, objective.numbers[items.clamp(min=0)], -1)
            real = numbers >= 0
            users = model(
                vectors[numbers.clamp(min=0)] * real[..., None],
                times=times,
                kinds=kinds,
                real=real,
                until=until[:, None].expand_as(times),
            )[:, -1]
            total += _ndcg(users @ vectors.T, numbers, objective.numbers[target])
        return total / max(1, len(self._arrays[0]))


def _ndcg(scores: Tensor, seen: Tensor, truth: Tensor) -> float:
    """Return the NDCG summed over users; a tie counts against the truth.

    Args:
        scores: (b, m) of all purchased products; those of the history are overwritten with -inf.
        seen: (b, t) products of the history, -1 = none.
        truth: (b,) the held-out product.
    """
    row, column = (seen >= 0).nonzero(as_tuple=True)
    scores[row, seen[row, column]] = -torch.inf
    truth_score = scores.gather(1, truth[:, None])
    position = (scores >= truth_score).sum(1) - 1
    return float(torch.where(position < _TOP_K, 1 / torch.log2(position.double() + 2), 0.0).sum())


@dataclass
class EarlyStopping:
    """Evaluates the model at intervals, keeps the best, and reduces the learning rate or stops.

    Attributes:
        evaluate: maps the model to a score; higher is better.
        interval: steps between two evaluations.
        patience: evaluations without a gain before the learning rate is reduced; after two reductions, before training
            stops.
        best_checkpoint: checkpoint of the best weights.
        scores: scores so far.
    """

    evaluate: Callable[[nn.Module], float]
    interval: int
    patience: int
    best_checkpoint: TrainingCheckpoint
    scores: list[float] = field(default_factory=list)

    def load_scores(self, scores: Sequence[float]) -> None:
        """Start with the scores of an interrupted training; none for a new one."""
        self.scores = list(scores)

    def step(self, model: nn.Module, step: int) -> float | None:
        """Return the score after this step; None when no evaluation is due."""
        if step % self.interval:
            return None
        score = self.evaluate(model)
        if score > max(self.scores, default=-math.inf):
            self.best_checkpoint.write(model, None, step)
        self.scores.append(score)
        return score

    @property
    def n_reductions(self) -> int:
        """Number of reductions: how often the patience was exceeded."""
        best, stale, reductions = -math.inf, 0, 0
        for value in self.scores:
            best, stale = (value, 0) if value > best else (best, stale + 1)
            if stale == self.patience:
                reductions, stale = reductions + 1, 0
        return reductions

    @property
    def learning_rate_factor(self) -> float:
        """Factor of the learning rate."""
        return _REDUCTION ** min(self.n_reductions, _MAX_REDUCTIONS)

    @property
    def should_stop(self) -> bool:
        """Whether training should stop: smaller learning rates have not helped either."""
        return self.n_reductions > _MAX_REDUCTIONS

    def restore_best(self, model: nn.Module) -> float | None:
        """Load the best weights into the model and return their score; None without any evaluation."""
        if not self.scores:
            return None
        step, _ = self.best_checkpoint.read(model, None)
        _LOG.info(
            "user encoder: best weights are from step %d, %s %.4f on held-out purchases", step, METRIC, max(self.scores)
        )
        return max(self.scores)


class NoEarlyStopping:
    """No early stopping: no evaluation, all steps are run, the last weights stay."""

    scores: Sequence[float] = ()
    learning_rate_factor = 1.0
    should_stop = False

    def load_scores(self, scores: Sequence[float]) -> None:
        """Do nothing: there are no scores."""

    def step(self, model: nn.Module, step: int) -> None:
        """Return None: no evaluation is ever due."""

    def restore_best(self, model: nn.Module) -> None:
        """Do nothing: the model keeps its weights."""
