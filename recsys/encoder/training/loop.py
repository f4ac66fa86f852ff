"""Training loop shared by the product and the user stage.

In: a model, weighted objectives, batches, a checkpoint to resume from. Out: the trained model and its final losses.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recsys.config import TrainingSettings
from recsys.encoder.batches.prefetch import BatchSource, PrefetchLoader
from recsys.encoder.device import autocast, select_device
from recsys.encoder.training import distributed
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.training.collapse import CollapseMonitor
from recsys.encoder.training.early_stopping import METRIC, EarlyStopping, NoEarlyStopping
from recsys.encoder.training.loss_weighting import FixedWeights, UncertaintyWeights
from recsys.encoder.training.metric_logger import MetricLogger, NullLogger
from recsys.errors import DegenerateLossError, InterruptedRunError
from recsys.execution.signals import defer_signals, handle_signals, raise_pending_signal

_LOG = logging.getLogger(__name__)
NO_EARLY_STOPPING = NoEarlyStopping()


def run_training_loop(
    model: nn.Module,
    objectives: Sequence[tuple[float, Any]],
    batches: BatchSource,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    checkpoint: TrainingCheckpoint,
    training: TrainingSettings,
    folder: Path,
    resume: bool,
    progress: bool,
    early_stopping: EarlyStopping | NoEarlyStopping = NO_EARLY_STOPPING,
    learned_weights: bool = False,
    monitor_collapse: bool = False,
) -> dict[str, float]:
    """Minimise the weighted sum of the objectives.

    Args:
        model: the model to train; afterwards in evaluation mode on the CPU.
        objectives: each with its weight.
        batches: source of the batch of any step.
        steps: total number of steps, including those of an interrupted run.
        batch_size: products or users per batch, for the throughput that is logged.
        learning_rate: peak of the schedule.
        checkpoint: the checkpoint, written and read here.
        training: the settings of the loop.
        folder: for metrics and logs.
        resume: resume from the checkpoint if there is one.
        progress: report progress on stderr.
        early_stopping: lowers the learning rate and stops without a gain; restores the best weights.
        learned_weights: learn the weights of the objectives, starting from the given ones.
        monitor_collapse: monitor whether the vectors of different products collapse.

    Returns:
        Smoothed final losses by name, `waiting` (share of the time spent waiting for batches), the last value of each
        metric logged during training, and with early stopping the best validation score.

    Raises:
        DegenerateLossError: the loss is not a number.
        InterruptedRunError: SIGTERM or SIGINT was received; a checkpoint has been written.
        ModelFolderError: the checkpoint belongs to another training.
    """
    stage = str(checkpoint.identity["stage"])
    device = select_device(training.device)
    weights = {objective.name: weight for weight, objective in objectives}
    weighting = (UncertaintyWeights if learned_weights else FixedWeights)(weights)
    parts = nn.ModuleDict(
        {"model": model, **{objective.name: objective for _, objective in objectives}, "balance": weighting}
    )
    parts.to(device).train()
    optimizer = torch.optim.AdamW(
        _parameter_groups(parts, training.weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True
    )
    writer = _CheckpointWriter(checkpoint, parts, optimizer, early_stopping, minutes=training.checkpoint_minutes)
    first = writer.load(stage, resume=resume)
    is_main = distributed.rank() == 0
    monitor = (
        CollapseMonitor(steps=steps, warmup_steps=round(training.warmup * steps))
        if monitor_collapse and is_main
        else None
    )
    logger = (MetricLogger if is_main else NullLogger)(
        folder, stage=stage, first_step=first, steps=steps, batch_size=batch_size, progress=progress
    )
    with (
        PrefetchLoader(batches, first, steps, pinned=device.type == "cuda") as source,
        logger,
        handle_signals(),
        defer_signals(),
    ):
        for step in range(first, steps):
            batch = source.next_batch().to(device)
            g = torch.Generator().manual_seed(_step_seed(training.seed, stage, step))
            with autocast(device, training.precision):
                losses = {objective.name: objective(model, batch, g).float() for _, objective in objectives}
            loss = weighting(losses)
            loss_values = {name: float(value.detach()) for name, value in losses.items()}
            if not math.isfinite(float(loss.detach())):
                raise DegenerateLossError(_degenerate_message(stage, step, loss_values))
            rate = learning_rate * _warmup_cosine(step, steps, training.warmup) * early_stopping.learning_rate_factor
            norm = _optimizer_step(loss, parts, optimizer, rate=rate, clip=training.clip)
            if not math.isfinite(norm):
                raise DegenerateLossError(_degenerate_message(stage, step, loss_values))
            if monitor and (metrics := monitor.check(model, batch, step + 1)):
                logger.log_metrics({**metrics, **weighting.weights()})
            logger.log_step(step + 1, {**loss_values, "gradient": norm}, waited=source.waited_seconds)
            if (score := early_stopping.step(model, step + 1)) is not None:
                logger.log_validation(step + 1, METRIC, score)
            finished = step + 1 == steps or early_stopping.should_stop
            if finished or writer.is_due:
                # early stopping is saved as the last step, so that a resumed training does not run past its end
                writer.write(steps if finished else step + 1)
            if finished:
                break
            if signal_number := _pending_signal():
                writer.write(step + 1)
                distributed.barrier()
                raise InterruptedRunError(
                    f"training {stage}: stopped by a signal after step {step + 1} of {steps}; "
                    "train --resume continues from there",
                    signal_number=signal_number,
                )
    model.eval()
    model.to("cpu")
    results = logger.final_metrics()
    if (best_score := early_stopping.restore_best(model)) is not None:
        results[METRIC] = best_score
    return results


class _CheckpointWriter:
    """Reads and writes the checkpoint of a training; process 0 writes it, every process reads it."""

    def __init__(
        self,
        checkpoint: TrainingCheckpoint,
        parts: nn.Module,
        optimizer: torch.optim.Optimizer,
        early_stopping: EarlyStopping | NoEarlyStopping,
        *,
        minutes: float,
    ) -> None:
        self._checkpoint, self._parts, self._optimizer, self._early_stopping = (
            checkpoint,
            parts,
            optimizer,
            early_stopping,
        )
        self._seconds, self._written = 60 * minutes, time.monotonic()

    def load(self, stage: str, *, resume: bool) -> int:
        """Load the checkpoint, if resuming and there is one; return the number of finished steps."""
        if not resume and distributed.rank() == 0:
            self._checkpoint.remove()
        distributed.barrier()
        first, scores = self._checkpoint.read(self._parts, self._optimizer)
        if resume:
            message = f"resumes after step {first}" if first else "no checkpoint found, starts at the first step"
            _LOG.info("training %s: %s", stage, message)
        distributed.broadcast_parameters(self._parts, {**self._checkpoint.identity, "step": first})
        self._early_stopping.load_scores(scores)
        return first

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is older than [training] checkpoint_minutes."""
        return time.monotonic() - self._written > self._seconds

    def write(self, step: int) -> None:
        """Save the state after this number of steps."""
        self._written = time.monotonic()
        if distributed.rank() == 0:
            self._checkpoint.write(self._parts, self._optimizer, step, scores=self._early_stopping.scores)


def _optimizer_step(
    loss: Tensor, parts: nn.Module, optimizer: torch.optim.Optimizer, *, rate: float, clip: float
) -> float:
    """Run backward pass and optimizer step; return the gradient norm before clipping.

    A gradient that is not finite is not applied.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.all_reduce_gradients(parts.parameters())
    norm = float(nn.utils.clip_grad_norm_(parts.parameters(), clip))
    for group in optimizer.param_groups:
        group["lr"] = group["pace"] * rate
    if math.isfinite(norm):
        optimizer.step()
    return norm


def _pending_signal() -> int:
    """Return the number of the signal that this or another process of the training received; 0 = none."""
    local_signal = 0
    try:
        raise_pending_signal()
    except InterruptedRunError as interruption:
        local_signal = interruption.exit_code - 128
    return distributed.all_reduce_max(local_signal)


def _parameter_groups(parts: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Group the parameters by weight decay and pace, the learning-rate factor of pretrained weights.

    Matrices are decayed; embeddings, biases, norms and scalars are not.
    """
    embeddings = {id(module.weight) for module in parts.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, decay): [], (1.0, 0.0): []}
    for p in parts.parameters():
        decayed = p.ndim >= 2 and id(p) not in embeddings
        groups.setdefault((getattr(p, "pace", 1.0), decay if decayed else 0.0), []).append(p)
    return [{"params": weights, "weight_decay": rate, "pace": pace} for (pace, rate), weights in groups.items()]


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then cosine decay to a hundredth."""
    warmup_steps = max(1, round(warmup * steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def _step_seed(seed: int, stage: str, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {stage} {step}".encode()).digest()[:7], "little")


def _degenerate_message(stage: str, step: int, loss_values: Mapping[str, float]) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in loss_values.items())
    return (
        f"training {stage}: the loss of step {step + 1} is not a number ({values}); "
        'lower [training] learning_rate or set precision = "fp32"'
    )
