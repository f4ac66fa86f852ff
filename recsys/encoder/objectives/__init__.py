"""What is asked of the encoder in training, one file each; an objective owns what it asks and names its loss.

In: the model, a batch, a generator. Out: one number to make small.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module, contravariant=True)
B = TypeVar("B", contravariant=True)


class Objective(Protocol[M, B]):
    """One thing asked of the model; may hold weights of its own, which are trained along and then thrown away."""

    name: str

    def __call__(self, model: M, batch: B, g: torch.Generator) -> Tensor:
        """The loss of a batch: () float32; `g` is the only source of chance."""
        ...
