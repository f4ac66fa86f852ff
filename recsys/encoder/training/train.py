"""Train both stages with the same loop: first products, then users on frozen product vectors.

In: catalogue, interactions, settings. Out: a `Model`; during training a checkpoint, metrics.jsonl and TensorBoard logs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from recsys.config import EncoderSettings, ObjectiveSettings, TrainingSettings
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.batches.users import UserBatchLoader
from recsys.encoder.device import deterministic
from recsys.encoder.model import Model
from recsys.encoder.objectives.augmented import AugmentedViewLoss
from recsys.encoder.objectives.co_purchase import CoPurchaseLoss
from recsys.encoder.objectives.denoise import DenoisingLoss
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.objectives.image_words import ImageWordLoss
from recsys.encoder.objectives.masked_attributes import MaskedAttributeLoss
from recsys.encoder.objectives.masked_image import MaskedImageLoss
from recsys.encoder.objectives.masked_text import MaskedTextLoss
from recsys.encoder.objectives.next_item import NextItemLoss
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.training.chunking import chunked_forward
from recsys.encoder.training.early_stopping import EarlyStopping, NdcgEvaluator, NoEarlyStopping, hold_out
from recsys.encoder.training.loop import run_training_loop
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.user_encoder import UserEncoder
from recsys.errors import DataContractError
from recsys.execution.memory import keep_freed_memory
from recsys.types import FloatArray

_IDENTITY_EXCLUDED: Final = {"checkpoint_minutes", "label_epochs", "label_learning_rate", "labels", "teacher"}
"""Settings that do not change the result, or that a plan adds to its own identity where they do."""


class NoSequencesError(DataContractError):
    """No user has two events, so the user encoder has nothing to learn; products can be trained all the same."""


def train_products(
    catalogue: Catalogue,
    interactions: Interactions,
    *,
    encoder: EncoderSettings,
    objectives: ObjectiveSettings,
    training: TrainingSettings,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
    plan: TrainingPlan = DEFAULT_PLAN,
) -> Model:
    """Train the product encoder, without labels unless the plan adds them.

    Args:
        catalogue: n products.
        interactions: events of the same products.
        encoder: sizes and inputs of the encoder.
        objectives: weight of each objective.
        training: settings of the training loop.
        folder: for checkpoint, metrics and logs.
        resume: resume from the checkpoint in `folder` if there is one.
        progress: report progress on stderr.
        plan: the training plan: initial weights, additional objectives, schedule.

    Raises:
        DataContractError: the catalogue is empty.
        DegenerateLossError: the loss is not a number.
        InterruptedRunError: SIGTERM or SIGINT was received; a checkpoint has been written.
        ModelFolderError: the checkpoint belongs to another training.
    """
    if len(catalogue) == 0:
        raise DataContractError("there is no product to train on; ingest products first")
    with deterministic(training.seed), keep_freed_memory():
        model = plan.create_encoder(catalogue, encoder)
        factories: dict[str, Callable[[], Any]] = {
            "masked_text": lambda: MaskedTextLoss(encoder.width),
            "masked_image": lambda: MaskedImageLoss(encoder.width, heads=encoder.heads),
            "masked_attributes": MaskedAttributeLoss,
            "denoise": DenoisingLoss,
            "image_text": lambda: ImageTextLoss(kind=objectives.contrast),
            "augmented": AugmentedViewLoss,
            "image_words": lambda: ImageWordLoss(encoder.width, len(model.words.vocabulary)),
            "co_purchase": CoPurchaseLoss,
        }
        weights = {name: getattr(objectives, name) for name in factories if getattr(objectives, name) > 0}
        weighted = [*((weight, factories[name]()) for name, weight in weights.items()), *plan.extra_objectives]
        batches = ProductBatchLoader(
            catalogue,
            model,
            CoPurchasePairs.from_interactions(interactions),
            batch_size=training.batch_size,
            seed=training.seed,
            oversampled_rows=plan.oversampled_rows,
        )
        steps = max((plan.epochs or training.epochs) * batches.steps_per_epoch, training.min_steps)
        identity = _training_fingerprint(
            "products", catalogue, interactions, encoder=encoder, objectives=objectives, training=training
        )
        with chunked_forward(model, chunk_size=training.chunk, compiled=training.compile):
            metrics = run_training_loop(
                model,
                weighted,
                batches,
                steps=steps,
                batch_size=2 * batches.half_size,
                checkpoint=TrainingCheckpoint(folder / "products.safetensors", {**identity, **plan.identity}),
                training=training,
                folder=folder,
                resume=resume,
                progress=progress,
                learning_rate=plan.learning_rate or training.learning_rate,
                learned_weights=objectives.weighting == "learned",
                monitor_collapse=True,
            )
    return Model(product_encoder=model, user_encoder=None, settings=encoder, metrics=metrics)


def train_users(
    model: Model,
    content: FloatArray,
    catalogue: Catalogue,
    interactions: Interactions,
    *,
    objectives: ObjectiveSettings,
    training: TrainingSettings,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> Model:
    """Train the user encoder on frozen product vectors; returns a model with both encoders.

    Args:
        model: has the product encoder.
        content: (n, d) vectors of the catalogue's products from that encoder.
        catalogue: n products.
        interactions: events to train on.
        objectives: `next_item` must be above 0.
        training: settings of the training loop.
        folder: for checkpoint, metrics and logs.
        resume: resume from the checkpoint in `folder` if there is one.
        progress: report progress on stderr.

    Raises:
        NoSequencesError: no user has two events.
        DegenerateLossError, InterruptedRunError, ModelFolderError: as `train_products`.
    """
    settings = model.settings
    purchased = np.flatnonzero(interactions.where(interactions.weight > 0).counts())
    holdout = hold_out(interactions, history_length=settings.history, seed=training.seed) if training.patience else None
    batches = UserBatchLoader(
        holdout.train if holdout else interactions,
        history_length=settings.history,
        batch_size=training.user_batch_size,
        seed=training.seed,
    )
    if len(batches.users) == 0:
        raise NoSequencesError("no user has two events, so there is no next purchase to learn; ingest more events")
    with deterministic(training.seed), keep_freed_memory():
        users = UserEncoder(IdMap(catalogue.ids.ids(purchased)), settings)
        objective = NextItemLoss(
            torch.from_numpy(content),
            users.residual_rows(catalogue.ids),
            id_dropout=settings.id_dropout,
            negatives=training.negatives,
        )
        steps = max(training.user_epochs * batches.steps_per_epoch, training.min_steps)
        identity = _training_fingerprint(
            "users", catalogue, interactions, encoder=settings, objectives=objectives, training=training
        )
        identity["content"] = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
        patience: EarlyStopping | NoEarlyStopping = NoEarlyStopping()
        if holdout:
            patience = EarlyStopping(
                NdcgEvaluator(holdout, objective),
                interval=batches.steps_per_epoch,
                patience=training.patience,
                best_checkpoint=TrainingCheckpoint(folder / "users-best.safetensors", identity),
            )
        metrics = run_training_loop(
            users,
            [(1.0, objective)],
            batches,
            steps=steps,
            batch_size=batches.batch_size,
            checkpoint=TrainingCheckpoint(folder / "users.safetensors", identity),
            training=training,
            folder=folder,
            resume=resume,
            progress=progress,
            learning_rate=training.user_learning_rate,
            early_stopping=patience,
        )
    return Model(
        product_encoder=model.product_encoder,
        user_encoder=users,
        settings=settings,
        metrics={**model.metrics, **metrics},
    )


def _training_fingerprint(
    stage: str, catalogue: Catalogue, interactions: Interactions, **settings: Any
) -> dict[str, Any]:
    """Return the inputs that determine a training: stage, settings, hash of the data."""
    data = hashlib.sha256()
    data.update("\x00".join(catalogue.ids.texts).encode("utf-8", "surrogatepass"))
    data.update(catalogue.hashes(sorted(catalogue.frame.columns)).tobytes())
    for column in (
        interactions.user,
        interactions.item,
        interactions.time,
        interactions.event_type,
        interactions.weight,
    ):
        data.update(np.ascontiguousarray(column).tobytes())
    fingerprint: dict[str, Any] = {"stage": stage, "data": data.hexdigest()}
    for section, section_settings in settings.items():
        fingerprint.update(
            {
                f"{section}.{key}": value
                for key, value in section_settings.model_dump(mode="json").items()
                if key not in _IDENTITY_EXCLUDED
            }
        )
    return fingerprint
