"""Distillation: a student encoder of the configured size learns from a larger, trained encoder.

In: the teacher `Model`, a catalogue. Out: a `TrainingPlan` with an additional objective, likeness to the teacher.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.data.catalogue import Catalogue
from recsys.encoder.model import Model
from recsys.encoder.objectives.teacher import DistillationLoss
from recsys.encoder.training.plan import TrainingPlan


def distillation_plan(teacher: Model, catalogue: Catalogue, *, weight: float) -> TrainingPlan:
    """Return the plan of a student; the teacher encodes every product once and is not needed again.

    Args:
        teacher: an encoder of this or another shop, of any size.
        catalogue: n products.
        weight: of the distillation objective among the others.
    """
    vectors = torch.from_numpy(teacher.encode(catalogue, np.arange(len(catalogue))))
    return TrainingPlan(
        extra_objectives=[(weight, DistillationLoss(vectors))],
        identity={"teacher": teacher.content_version, "teacher_weight": weight},
    )


def encoder_sizes(model: Model) -> tuple[int, int, int, int, int]:
    """Return vector length, width, text layers, fusion layers and number of product encoder weights."""
    settings = model.settings
    n_weights = sum(weight.numel() for weight in model.product_encoder.parameters())
    return settings.dim, settings.width, settings.text_layers, settings.fusion_layers, n_weights
