"""Distillation: a student of the sizes that are set learns what a larger, trained encoder sees.

In: the teacher `Model`, a catalogue. Out: a `TrainingPlan` whose further objective is to be like the teacher.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.data.catalogue import Catalogue
from recsys.encoder.model import Model
from recsys.encoder.objectives.teacher import DistillationLoss
from recsys.encoder.training.plan import TrainingPlan


def distillation_plan(teacher: Model, catalogue: Catalogue, *, weight: float) -> TrainingPlan:
    """The course of a student; the teacher reads every product once, whole, and is not needed again.

    Args:
        teacher: of this or another shop; its sizes are its own.
        catalogue: n products.
        weight: of the objective among the others.
    """
    vectors = torch.from_numpy(teacher.encode(catalogue, np.arange(len(catalogue))))
    return TrainingPlan(
        extra_objectives=[(weight, DistillationLoss(vectors))],
        identity={"teacher": teacher.content_version, "teacher_weight": weight},
    )


def encoder_sizes(model: Model) -> tuple[int, int, int, int, int]:
    """Length of the vectors, width, layers of the text tower and of the fusion, weights of the product encoder."""
    held = model.settings
    weights = sum(weight.numel() for weight in model.product.parameters())
    return held.dim, held.width, held.text_layers, held.fusion_layers, weights
