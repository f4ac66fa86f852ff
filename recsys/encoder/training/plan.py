"""How a training of the product encoder differs from the plain one: where it starts, what more is asked, for how long.

In: the parts, from transfer, labels or a teacher. Out: a `TrainingPlan`, which `train_products` follows.
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
    """The plain course where nothing is given: random weights, no further objective, all products alike.

    Attributes:
        begin: catalogue and sizes to the encoder that is trained.
        more: further objectives with their weights, above 0.
        often: (l,) rows of products that have a share of every batch for themselves; None = none.
        passes: over the products; None = [training] epochs.
        peak: highest learning rate; None = [training] learning_rate.
        identity: what tells this course from others, fit for JSON; a checkpoint of another is refused.
    """

    create_encoder: Callable[[Catalogue, EncoderSettings], ProductEncoder] = ProductEncoder.fit
    extra_objectives: Sequence[tuple[float, nn.Module]] = ()
    oversampled_rows: IntArray | None = None
    passes: int | None = None
    learning_rate: float | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)

    def with_schedule(self, *, passes: int, peak: float | None = None) -> TrainingPlan:
        """The same for so many passes, and with another learning rate when one is given."""
        peak = peak or self.learning_rate
        return replace(
            self, passes=passes, learning_rate=peak, identity={**self.identity, "passes": passes, "peak": peak}
        )


DEFAULT_PLAN: Final = TrainingPlan()
