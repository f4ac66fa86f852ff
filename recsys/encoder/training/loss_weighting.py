"""Combine the losses of the objectives, with configured or with learned weights.

In: the losses of a step. Out: one loss to minimise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """The weighted sum with the configured weights."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the total loss () of the losses () by name."""
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()

    def weights(self) -> dict[str, float]:
        """Return nothing to log: the weights are the configured ones."""
        return {}


class UncertaintyWeights(nn.Module):
    """Weights from the uncertainty of each objective (Kendall, Gal & Cipolla 2018): sum of exp(-s) L + s.

    Each s starts so that exp(-s) is the configured weight, and converges where exp(-s) L is 1. An objective without
    targets in a step (its loss is exactly 0) is left out of that step, and so is its s; otherwise its weight would grow
    without limit.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.uncertainty = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(-math.log(weight))) for name, weight in weights.items()}
        )

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the total loss () of the losses () by name."""
        terms = []
        for name, loss in losses.items():
            s = self.uncertainty[name]
            terms.append((-s).exp() * loss + s * (loss.detach() != 0))
        return torch.stack(terms).sum()

    def weights(self) -> dict[str, float]:
        """Return the current weight of each objective, as metrics to log."""
        return {f"weight_{name}": math.exp(-float(s.detach())) for name, s in self.uncertainty.items()}
