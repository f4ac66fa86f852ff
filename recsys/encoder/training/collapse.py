"""Detect representation collapse: whether product vectors become similar or use few dimensions.

In: the model and a batch of products, every few steps. Out: two metrics for the logger, a warning if they are bad.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from recsys.types import IntArray

_LOG = logging.getLogger(__name__)
_INTERVAL: Final = 50
"""Steps between two checks; each costs one pass without gradients over a batch."""
_MAX_COSINE: Final = 0.9
_MIN_RANK: Final = (1.5, 1 / 16)
"""Smallest effective rank: in dimensions, and as a share of the largest possible rank; the larger one applies."""
_MIN_PRODUCTS: Final = 8
"""Fewer products say nothing about the space."""


def mean_cosine(vectors: Tensor) -> float:
    """Return the mean cosine between all pairs of different rows (m, d); nan for fewer than two."""
    unit = nn.functional.normalize(vectors.double(), dim=1)
    m = len(unit)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (m * (m - 1))) if m > 1 else float("nan")


def effective_rank(vectors: Tensor) -> float:
    """Return how many dimensions the rows (m, d) use, 1 .. min(m, d).

    The exponential of the entropy of the normalised singular values (Roy & Vetterli 2007); as a measure of learned
    representations RankMe, Garrido et al. 2023. Nan where all is zero.
    """
    singular_values = torch.linalg.svdvals(vectors.double())
    share = singular_values / singular_values.sum()
    return float(torch.special.entr(share).sum().exp())


class CollapseMonitor:
    """Checks the vectors of a batch as they would be used: from all data of each product, nothing masked.

    Attributes:
        steps: number of steps of the training.
        warmup_steps: steps at the beginning without warnings, because the model has learned nothing yet.
        last_metrics: mean cosine and effective rank of the last check, by name.
    """

    def __init__(self, *, steps: int, warmup_steps: int) -> None:
        self.steps, self.warmup_steps = steps, warmup_steps
        self.last_metrics: dict[str, float] = {}
        self._warned = False

    def check(self, model: nn.Module, batch: Any, step: int) -> dict[str, float]:
        """Return the two metrics after step `step` (1 = the first); empty when no check is due."""
        if step % _INTERVAL and step != self.steps:
            return {}
        # A product that occurs twice in a batch would count as two products with equal vectors.
        rows: IntArray = np.unique(batch.rows, return_index=True)[1]
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            vectors = model(batch.x).vector.cpu()[torch.from_numpy(rows)]
        model.train(was_training)
        self.last_metrics = {"mean_cosine": mean_cosine(vectors), "effective_rank": effective_rank(vectors)}
        if step > self.warmup_steps and len(vectors) >= _MIN_PRODUCTS:
            self._warn_if_collapsed(min(vectors.shape), step)
        return self.last_metrics

    def _warn_if_collapsed(self, max_rank: int, step: int) -> None:
        cosine, rank = self.last_metrics["mean_cosine"], self.last_metrics["effective_rank"]
        min_rank = max(_MIN_RANK[0], _MIN_RANK[1] * max_rank)
        if self._warned or (cosine <= _MAX_COSINE and rank >= min_rank):
            return
        self._warned = True
        _LOG.warning(
            "product vectors: collapsed after step %d, the mean cosine between different products is %.3f (at most "
            "%.2f is healthy) and the effective rank %.1f of %d (at least %.1f is healthy); raise the weight of "
            "[objectives] image_text and co_purchase, which separate products, or lower [training] learning_rate",
            step, cosine, _MAX_COSINE, rank, max_rank, min_rank,
        )  # fmt: skip
