"""Options of a product-encoder training: initial weights, additional objectives, schedule.

In: choices made by transfer, fine-tuning or distillation. Out: a `TrainingPlan` for `train_products`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from torch import nn

from recsys.config import EncoderSettings
from recsys.data.catalogue import Catalogue
from recsys.encoder.product_encoder import ProductEncoder
from recsys.types import IntArray


@dataclass(frozen=True)
class TrainingPlan:
    """A training of the product encoder.

    The defaults: random weights, no additional objective, all products sampled evenly.

    Attributes:
        create_encoder: maps catalogue and sizes to the encoder that is trained.
        extra_objectives: additional objectives, each with its weight above 0.
        oversampled_rows: (l,) rows of products that get a fixed share of every batch; None = none.
        epochs: over the products; None = [training] epochs.
        learning_rate: peak of the schedule; None = [training] learning_rate.
        identity: entries that distinguish this plan from others, JSON-compatible; a checkpoint of another is refused.
    """

    create_encoder: Callable[[Catalogue, EncoderSettings], ProductEncoder] = ProductEncoder.fit
    extra_objectives: Sequence[tuple[float, nn.Module]] = ()
    oversampled_rows: IntArray | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)

    def with_schedule(self, *, epochs: int, learning_rate: float | None = None) -> TrainingPlan:
        """Return a copy with this number of passes and, if given, this peak learning rate."""
        learning_rate = learning_rate or self.learning_rate
        return replace(
            self,
            epochs=epochs,
            learning_rate=learning_rate,
            identity={**self.identity, "passes": epochs, "peak": learning_rate},
        )


DEFAULT_PLAN: Final = TrainingPlan()
