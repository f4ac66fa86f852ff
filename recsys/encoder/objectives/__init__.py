"""Training objectives of the encoder, one per file.

An objective holds its own prediction heads, and its name is the name of its loss in logs and checkpoints.
In: the model, a batch, a generator. Out: one loss to minimise.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module, contravariant=True)
BatchT = TypeVar("BatchT", contravariant=True)


class Objective(Protocol[ModelT, BatchT]):
    """A training objective; its own weights are trained together with the model and then discarded."""

    name: str

    def __call__(self, model: ModelT, batch: BatchT, g: torch.Generator) -> Tensor:
        """Return the loss of a batch: () float32; `g` is the only source of randomness."""
        ...
