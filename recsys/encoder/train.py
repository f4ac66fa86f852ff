"""Training, both stages by the same flat loop: first products, then users on frozen product vectors.

In: catalogue, interactions, settings. Out: a `Model`; along the way a checkpoint, metrics.jsonl and TensorBoard logs.
"""

from __future__ import annotations

import hashlib
import logging
import math
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recsys.config import EncoderSettings, ObjectiveSettings, TrainingSettings
from recsys.data.catalogue import Catalogue
from recsys.data.ids import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.batches import ProductBatches
from recsys.encoder.journal import Journal
from recsys.encoder.model import Model
from recsys.encoder.objectives.co_purchase import CoPurchase
from recsys.encoder.objectives.image_text import ImageText
from recsys.encoder.objectives.masked_attributes import MaskedAttributes
from recsys.encoder.objectives.masked_text import MaskedText
from recsys.encoder.objectives.next_item import NextItem
from recsys.encoder.pairs import Pairs
from recsys.encoder.processor import autocast, pick_device, repeatable
from recsys.encoder.product import ProductEncoder
from recsys.encoder.snapshot import Snapshot
from recsys.encoder.user import UserEncoder
from recsys.encoder.user_batches import UserBatches
from recsys.errors import DataContractError, DegenerateLossError, InterruptedRunError

_LOG = logging.getLogger(__name__)
_NOT_IDENTITY: Final = {"checkpoint_minutes"}


class Batches(Protocol):
    """Gives the batch of any step."""

    steps_per_pass: int

    def at(self, step: int) -> Any:
        """The batch of a step, a pure function of its number."""
        ...


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
) -> Model:
    """Train the product encoder without labels.

    Args:
        catalogue: n products.
        interactions: events of the same products.
        encoder: sizes and inputs.
        objectives: weight of each objective.
        training: the loop.
        folder: where checkpoint, metrics and logs go.
        resume: go on from the checkpoint in `folder` if there is one.
        progress: say how it goes on stderr.

    Raises:
        DataContractError: there is no product.
        DegenerateLossError: the loss is not a number.
        InterruptedRunError: SIGTERM or SIGINT came; a checkpoint has been written.
        ModelFolderError: the checkpoint belongs to another training.
    """
    if len(catalogue) == 0:
        raise DataContractError("there is no product to train on; ingest products first")
    with repeatable(training.seed):
        model = ProductEncoder.fit(catalogue, encoder)
        asked = {
            "masked_text": lambda: MaskedText(encoder.width),
            "masked_attributes": lambda: MaskedAttributes(),
            "image_text": lambda: ImageText(),
            "co_purchase": lambda: CoPurchase(),
        }
        weights = {name: getattr(objectives, name) for name in asked if getattr(objectives, name) > 0}
        parts = [(weight, asked[name]()) for name, weight in weights.items()]
        batches = ProductBatches(
            catalogue, model, Pairs.mine(interactions), size=training.batch_size, seed=training.seed
        )
        steps = max(training.epochs * batches.steps_per_pass, training.min_steps)
        identity = _identity(
            "products", catalogue, interactions, encoder=encoder, objectives=objectives, training=training
        )
        metrics = _loop(
            model,
            parts,
            batches,
            steps=steps,
            per_step=2 * batches.half,
            snapshot=Snapshot(folder / "products.safetensors", identity),
            training=training,
            folder=folder,
            resume=resume,
            progress=progress,
            peak=training.learning_rate,
        )
    return Model(product=model, user=None, settings=encoder, metrics=metrics)


def train_users(
    model: Model,
    content: npt.NDArray[np.float32],
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
        content: (n, d) vectors of the catalogue's products by that encoder.
        catalogue: n products.
        interactions: events to learn from.
        objectives: `next_item` = 0 is an error here.
        training: the loop.
        folder: where checkpoint, metrics and logs go.
        resume: go on from the checkpoint in `folder` if there is one.
        progress: say how it goes on stderr.

    Raises:
        DataContractError: no user has two events.
        DegenerateLossError, InterruptedRunError, ModelFolderError: as `train_products`.
    """
    settings = model.settings
    bought = np.flatnonzero(interactions.where(interactions.weight > 0).counts())
    batches = UserBatches(interactions, history=settings.history, size=training.user_batch_size, seed=training.seed)
    if len(batches.users) == 0:
        raise DataContractError("no user has two events, so there is no next purchase to learn; ingest more events")
    with repeatable(training.seed):
        users = UserEncoder(IdMap(catalogue.ids.ids(bought)), settings)
        objective = NextItem(torch.from_numpy(content), users.numbers(catalogue.ids), id_dropout=settings.id_dropout)
        steps = max(training.user_epochs * batches.steps_per_pass, training.min_steps)
        identity = _identity(
            "users", catalogue, interactions, encoder=settings, objectives=objectives, training=training
        )
        identity["content"] = hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()
        metrics = _loop(
            users,
            [(1.0, objective)],
            batches,
            steps=steps,
            per_step=batches.size,
            snapshot=Snapshot(folder / "users.safetensors", identity),
            training=training,
            folder=folder,
            resume=resume,
            progress=progress,
            peak=training.user_learning_rate,
        )
    return Model(product=model.product, user=users, settings=settings, metrics={**model.metrics, **metrics})


def _loop(
    model: nn.Module,
    objectives: Sequence[tuple[float, Any]],
    batches: Batches,
    *,
    steps: int,
    per_step: int,
    peak: float,
    snapshot: Snapshot,
    training: TrainingSettings,
    folder: Path,
    resume: bool,
    progress: bool,
) -> dict[str, float]:
    """Make the weighted sum of the objectives small; returns the smoothed named losses at the end."""
    stage = str(snapshot.identity["stage"])
    device = pick_device(training.device)
    parts = nn.ModuleDict({"model": model, **{part.name: part for _, part in objectives}}).to(device).train()
    optimizer = torch.optim.AdamW(_groups(parts, training.weight_decay), lr=peak, betas=(0.9, 0.98), fused=True)
    if not resume:
        snapshot.remove()
    first = snapshot.read(parts, optimizer)
    if resume:
        _LOG.info(
            "training %s: %s",
            stage,
            f"goes on after step {first}" if first else "no checkpoint, starts from the beginning",
        )
    written = time.monotonic()
    with (
        Journal(folder, stage=stage, first=first, steps=steps, per_step=per_step, progress=progress) as journal,
        _Stop() as stop,
    ):
        for step in range(first, steps):
            batch = batches.at(step).to(device)
            g = torch.Generator().manual_seed(_seed(training.seed, stage, step))
            with autocast(device, training.precision):
                losses = {part.name: weight * part(model, batch, g).float() for weight, part in objectives}
            loss = torch.stack(list(losses.values())).sum()
            numbers = {
                name: float(value.detach()) / weight
                for (name, value), (weight, _) in zip(losses.items(), objectives, strict=True)
            }
            if not math.isfinite(float(loss.detach())):
                raise DegenerateLossError(_degenerate(stage, step, numbers))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = float(nn.utils.clip_grad_norm_(parts.parameters(), training.clip))
            if not math.isfinite(norm):
                raise DegenerateLossError(_degenerate(stage, step, numbers))
            for group in optimizer.param_groups:
                group["lr"] = peak * _schedule(step, steps, training.warmup)
            optimizer.step()
            journal.step(step + 1, {**numbers, "gradient": norm})
            if stop.signal or step + 1 == steps or time.monotonic() - written > 60 * training.checkpoint_minutes:
                snapshot.write(parts, optimizer, step + 1)
                written = time.monotonic()
            if stop.signal and step + 1 < steps:
                raise InterruptedRunError(
                    f"training {stage} stopped by a signal after step {step + 1} of {steps}; train --resume goes on from there",
                    signal_number=stop.signal,
                )
    model.eval()
    model.to("cpu")
    return {name: value for name, value in journal.said.items() if name != "gradient"}


def _groups(parts: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; embeddings, biases, norms and single numbers are not."""
    tables = {id(module.weight) for module in parts.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in parts.parameters() if p.ndim >= 2 and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [p for p in parts.parameters() if id(p) not in chosen], "weight_decay": 0.0},
    ]


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a straight line up, then a cosine down to a hundredth."""
    up = max(1, round(warmup * steps))
    if step < up:
        return (step + 1) / up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def _seed(seed: int, stage: str, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {stage} {step}".encode()).digest()[:7], "little")


def _degenerate(stage: str, step: int, numbers: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
    return f'training {stage}: the loss of step {step + 1} is not a number ({said}); lower [training] learning_rate or set precision = "fp32"'


def _identity(stage: str, catalogue: Catalogue, interactions: Interactions, **settings: Any) -> dict[str, Any]:
    """What makes a training this one: stage, settings, data."""
    data = hashlib.sha256()
    data.update("\x00".join(catalogue.ids.texts).encode("utf-8", "surrogatepass"))
    data.update(catalogue.hashes(sorted(catalogue.frame.columns)).tobytes())
    for column in (interactions.user, interactions.item, interactions.time, interactions.kind, interactions.weight):
        data.update(np.ascontiguousarray(column).tobytes())
    out: dict[str, Any] = {"stage": stage, "data": data.hexdigest()}
    for section, held in settings.items():
        out.update(
            {
                f"{section}.{key}": value
                for key, value in held.model_dump(mode="json").items()
                if key not in _NOT_IDENTITY
            }
        )
    return out


class _Stop:
    """Notes SIGTERM and SIGINT instead of dying of them, so that the loop can finish its step."""

    def __init__(self) -> None:
        self.signal = 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number

    def __enter__(self) -> _Stop:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            for number, handler in self._before.items():
                signal.signal(number, handler)
