"""The training loop both stages share: read it aloud.

In: a model, objectives with their weights, batches, a snapshot to go on from. Out: the trained model, its last losses.
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
from recsys.execution import signals as stop

_LOG = logging.getLogger(__name__)
ENDLESS = NoEarlyStopping()


def run_training_loop(
    model: nn.Module,
    objectives: Sequence[tuple[float, Any]],
    batches: BatchSource,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    snapshot: TrainingCheckpoint,
    training: TrainingSettings,
    folder: Path,
    resume: bool,
    progress: bool,
    patience: EarlyStopping | NoEarlyStopping = ENDLESS,
    learned_weights: bool = False,
    collapse: bool = False,
) -> dict[str, float]:
    """Make the weighted sum of the objectives small.

    Args:
        model: what is trained; ends in evaluation mode on the CPU.
        objectives: each with its weight.
        batches: give the batch of any step.
        steps: all steps of the training, those of an earlier start included.
        per_step: products or users in a batch, for the speed shown.
        peak: highest learning rate.
        snapshot: where the training can be taken up again.
        training: the settings of the loop.
        folder: of metrics and logs.
        resume: go on from the snapshot if there is one.
        progress: say how it goes on stderr.
        patience: slows the training down and ends it when it gains no more; the best weights are those given back.
        learned_weights: the weights are only where those of the objectives start.
        collapse: look now and then whether the vectors of different products fall together.

    Returns:
        The smoothed named losses at the end, `waiting` (share of the time spent waiting for batches), what was noted
        on the way, and with `patience` the metric it went by.

    Raises:
        DegenerateLossError: the loss is not a number.
        InterruptedRunError: SIGTERM or SIGINT came; a checkpoint has been written.
        ModelFolderError: the checkpoint belongs to another training.
    """
    stage = str(snapshot.identity["stage"])
    device = select_device(training.device)
    weights = {part.name: weight for weight, part in objectives}
    balance = (UncertaintyWeights if learned_weights else FixedWeights)(weights)
    parts = nn.ModuleDict({"model": model, **{part.name: part for _, part in objectives}, "balance": balance})
    parts.to(device).train()
    optimizer = torch.optim.AdamW(
        _parameter_groups(parts, training.weight_decay), lr=learning_rate, betas=(0.9, 0.98), fused=True
    )
    saved = _CheckpointWriter(snapshot, parts, optimizer, patience, minutes=training.checkpoint_minutes)
    first = saved.begin(stage, resume=resume)
    leads = distributed.rank() == 0
    watch = CollapseMonitor(steps=steps, quiet=round(training.warmup * steps)) if collapse and leads else None
    journal = (MetricLogger if leads else NullLogger)(
        folder, stage=stage, first=first, steps=steps, per_step=batch_size, progress=progress
    )
    with (
        PrefetchLoader(batches, first, steps, pin=device.type == "cuda") as source,
        journal,
        stop.handle_signals(),
        stop.defer_signals(),
    ):
        for step in range(first, steps):
            batch = source.next_batch().to(device)
            g = torch.Generator().manual_seed(_seed(training.seed, stage, step))
            with autocast(device, training.precision):
                losses = {part.name: part(model, batch, g).float() for _, part in objectives}
            loss = balance(losses)
            numbers = {name: float(value.detach()) for name, value in losses.items()}
            if not math.isfinite(float(loss.detach())):
                raise DegenerateLossError(_degenerate(stage, step, numbers))
            rate = learning_rate * _warmup_cosine(step, steps, training.warmup) * patience.rate
            norm = _optimizer_step(loss, parts, optimizer, rate=rate, clip=training.clip)
            if not math.isfinite(norm):
                raise DegenerateLossError(_degenerate(stage, step, numbers))
            if watch and (seen := watch.check(model, batch, step + 1)):
                journal.log_metrics({**seen, **balance.weights()})
            journal.step(step + 1, {**numbers, "gradient": norm}, waited=source.waited)
            if (judged := patience.step(model, step + 1)) is not None:
                journal.log_validation(step + 1, METRIC, judged)
            ended = step + 1 == steps or patience.enough
            if ended or saved.due:
                # one that has ended early is written as done, so that nothing taken up again goes past its end
                saved.write(steps if ended else step + 1)
            if ended:
                break
            if number := _pending_signal():
                saved.write(step + 1)
                distributed.barrier()
                raise InterruptedRunError(
                    f"training {stage} stopped by a signal after step {step + 1} of {steps}; "
                    "train --resume goes on from there",
                    signal_number=number,
                )
    model.eval()
    model.to("cpu")
    out = journal.final_metrics()
    if (value := patience.restore(model)) is not None:
        out[METRIC] = value
    return out


class _CheckpointWriter:
    """Where a training can be taken up again; process 0 writes it, all read it."""

    def __init__(
        self,
        snapshot: TrainingCheckpoint,
        parts: nn.Module,
        optimizer: torch.optim.Optimizer,
        patience: EarlyStopping | NoEarlyStopping,
        *,
        minutes: float,
    ) -> None:
        self._snapshot, self._parts, self._optimizer, self._patience = snapshot, parts, optimizer, patience
        self._seconds, self._written = 60 * minutes, time.monotonic()

    def begin(self, stage: str, *, resume: bool) -> int:
        """Take everything up from the file, if it is to be and there is one: the number of steps done."""
        if not resume and distributed.rank() == 0:
            self._snapshot.remove()
        distributed.barrier()
        first, looks = self._snapshot.read(self._parts, self._optimizer)
        if resume:
            said = f"goes on after step {first}" if first else "no checkpoint, starts from the beginning"
            _LOG.info("training %s: %s", stage, said)
        distributed.broadcast_parameters(self._parts, {**self._snapshot.identity, "step": first})
        self._patience.begin(looks)
        return first

    @property
    def due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self._written > self._seconds

    def write(self, done: int) -> None:
        """Keep what is there after so many steps."""
        self._written = time.monotonic()
        if distributed.rank() == 0:
            self._snapshot.write(self._parts, self._optimizer, done, looks=self._patience.looks)


def _optimizer_step(
    loss: Tensor, parts: nn.Module, optimizer: torch.optim.Optimizer, *, rate: float, clip: float
) -> float:
    """One step of the optimiser, none where the gradient is no number; the gradient's norm before it was clipped."""
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
    """The number of the signal that asked this process, or one it works with, to stop; 0 = none."""
    own = 0
    try:
        stop.raise_pending_signal()
    except InterruptedRunError as asked:
        own = asked.exit_code - 128
    return distributed.all_reduce_max(own)


def _parameter_groups(parts: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; embeddings, biases, norms and single numbers are not. Pretrained weights have a pace."""
    tables = {id(module.weight) for module in parts.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, decay): [], (1.0, 0.0): []}
    for p in parts.parameters():
        decayed = p.ndim >= 2 and id(p) not in tables
        groups.setdefault((getattr(p, "pace", 1.0), decay if decayed else 0.0), []).append(p)
    return [{"params": held, "weight_decay": rate, "pace": pace} for (pace, rate), held in groups.items()]


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a straight line up, then a cosine down to a hundredth."""
    up = max(1, round(warmup * steps))
    if step < up:
        return (step + 1) / up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def _seed(seed: int, stage: str, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {stage} {step}".encode()).digest()[:7], "little")


def _degenerate(stage: str, step: int, numbers: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
    return (
        f"training {stage}: the loss of step {step + 1} is not a number ({said}); "
        'lower [training] learning_rate or set precision = "fp32"'
    )
