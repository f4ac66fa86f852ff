"""Has the space collapsed: do different products still get different vectors, and do they use the whole space.

In: the model and a batch of products, every so many steps. Out: two numbers for the journal, a warning if they are bad.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from recsys.types import IntArray

_LOG = logging.getLogger(__name__)
_EVERY: Final = 50
"""Steps between two looks; each costs one pass without gradients over a batch."""
_CLOSEST: Final = 0.9
_NARROWEST: Final = (1.5, 1 / 16)
"""Dimensions, and share of the dimensions there could be; what is more counts."""
_FEWEST: Final = 8
"""Products that say anything about a space."""


def mean_cosine(vectors: Tensor) -> float:
    """Mean cosine between all pairs of different rows (m, d); nan for fewer than two."""
    unit = nn.functional.normalize(vectors.double(), dim=1)
    m = len(unit)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (m * (m - 1))) if m > 1 else float("nan")


def effective_rank(vectors: Tensor) -> float:
    """How many dimensions the rows (m, d) use: exp of the entropy of the normalised singular values, 1 .. min(m, d).

    Roy & Vetterli 2007; as a measure of learnt representations RankMe, Garrido et al. 2023. Nan where all is zero.
    """
    found = torch.linalg.svdvals(vectors.double())
    share = found / found.sum()
    return float(torch.special.entr(share).sum().exp())


class CollapseMonitor:
    """Looks at the vectors of a batch as a shop would get them: all that is known of each product, nothing hidden.

    Attributes:
        steps: of the training.
        quiet: steps at the beginning in which nothing is warned about, for the model has learnt nothing yet.
        seen: mean cosine and effective rank at the last look, by name.
    """

    def __init__(self, *, steps: int, quiet: int) -> None:
        self.steps, self.quiet = steps, quiet
        self.seen: dict[str, float] = {}
        self._warned = False

    def check(self, model: nn.Module, batch: Any, done: int) -> dict[str, float]:
        """The two numbers after step `done` (1 = the first); none when it is not time to look."""
        if done % _EVERY and done != self.steps:
            return {}
        # A product that comes twice in a batch would count as two that are alike.
        rows: IntArray = np.unique(batch.rows, return_index=True)[1]
        learning = model.training
        model.eval()
        with torch.inference_mode():
            vectors = model(batch.x).vector.cpu()[torch.from_numpy(rows)]
        model.train(learning)
        self.seen = {"mean_cosine": mean_cosine(vectors), "effective_rank": effective_rank(vectors)}
        if done > self.quiet and len(vectors) >= _FEWEST:
            self._judge(min(vectors.shape), done)
        return self.seen

    def _judge(self, most: int, done: int) -> None:
        cosine, rank = self.seen["mean_cosine"], self.seen["effective_rank"]
        least = max(_NARROWEST[0], _NARROWEST[1] * most)
        if self._warned or (cosine <= _CLOSEST and rank >= least):
            return
        self._warned = True
        _LOG.warning(
            "the product vectors collapse: after step %d the mean cosine between different products is %.3f (more than "
            "%.2f is bad) and the effective rank %.1f of %d (less than %.1f is bad); give [objectives] image_text and "
            "co_purchase, which tell products apart, more weight, or lower [training] learning_rate",
            done, cosine, _CLOSEST, rank, most, least,
        )  # fmt: skip
