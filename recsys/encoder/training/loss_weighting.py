"""How the objectives of a training are weighed against each other: as configured, or by weights learnt along.

In: the losses of a step. Out: one number to make small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """The weighted sum."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """() of the losses () by name."""
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()

    def weights(self) -> dict[str, float]:
        """Nothing worth telling: the weights are those configured."""
        return {}


class UncertaintyWeights(nn.Module):
    """Weights from the uncertainty of each objective (Kendall, Gal & Cipolla 2018): sum of exp(-s) L + s.

    Each s starts so that exp(-s) is the configured weight, and comes to rest where exp(-s) L is 1. An objective that
    had nothing to ask in a step (its loss is exactly 0) is left out of it, s too: else its weight would grow for ever.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.uncertainty = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(-math.log(weight))) for name, weight in weights.items()}
        )

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """() of the losses () by name."""
        parts = []
        for name, loss in losses.items():
            s = self.uncertainty[name]
            parts.append((-s).exp() * loss + s * (loss.detach() != 0))
        return torch.stack(parts).sum()

    def weights(self) -> dict[str, float]:
        """What each objective weighs now."""
        return {f"weight_{name}": math.exp(-float(s.detach())) for name, s in self.uncertainty.items()}
