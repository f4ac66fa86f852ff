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
from typing import Any, Protocol

import torch
from torch import nn

from recsys.config import TrainingSettings
from recsys.encoder.journal import Journal
from recsys.encoder.processor import autocast, pick_device
from recsys.encoder.snapshot import Snapshot
from recsys.encoder.validation import METRIC, Endless, Patience
from recsys.errors import DegenerateLossError, InterruptedRunError
from recsys.execution import stop

_LOG = logging.getLogger(__name__)
ENDLESS = Endless()


class Batches(Protocol):
    """Gives the batch of any step."""

    steps_per_pass: int

    def at(self, step: int) -> Any:
        """The batch of a step, a pure function of its number."""
        ...


def run(
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
    patience: Patience | Endless = ENDLESS,
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

    Returns:
        The smoothed named losses at the end; with `patience` the metric it went by.

    Raises:
        DegenerateLossError: the loss is not a number.
        InterruptedRunError: SIGTERM or SIGINT came; a checkpoint has been written.
        ModelFolderError: the checkpoint belongs to another training.
    """
    stage = str(snapshot.identity["stage"])
    device = pick_device(training.device)
    parts = nn.ModuleDict({"model": model, **{part.name: part for _, part in objectives}}).to(device).train()
    optimizer = torch.optim.AdamW(_groups(parts, training.weight_decay), lr=peak, betas=(0.9, 0.98), fused=True)
    if resume:
        first, looks = snapshot.read(parts, optimizer)
        said = f"goes on after step {first}" if first else "no checkpoint, starts from the beginning"
        _LOG.info("training %s: %s", stage, said)
    else:
        snapshot.remove()
        first, looks = 0, []
    patience.begin(looks)

    def write(done: int) -> None:
        snapshot.write(parts, optimizer, done, looks=patience.looks)

    written = time.monotonic()
    with (
        Journal(folder, stage=stage, first=first, steps=steps, per_step=per_step, progress=progress) as journal,
        stop.listening(),
        stop.deferred(),
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
                group["lr"] = group["pace"] * peak * _schedule(step, steps, training.warmup) * patience.rate
            optimizer.step()
            journal.step(step + 1, {**numbers, "gradient": norm})
            if (seen := patience.look(model, step + 1)) is not None:
                journal.judged(step + 1, METRIC, seen)
            ended = step + 1 == steps or patience.enough
            if ended or time.monotonic() - written > 60 * training.checkpoint_minutes:
                # one that has ended early is written as done, so that nothing taken up again goes past its end
                write(steps if ended else step + 1)
                written = time.monotonic()
            if ended:
                break
            try:
                stop.check()
            except InterruptedRunError as asked:
                write(step + 1)
                raise InterruptedRunError(
                    f"training {stage} stopped by a signal after step {step + 1} of {steps}; "
                    "train --resume goes on from there",
                    signal_number=asked.exit_code - 128,
                ) from None
    model.eval()
    model.to("cpu")
    out = {name: value for name, value in journal.said.items() if name != "gradient"}
    if (value := patience.restore(model)) is not None:
        out[METRIC] = value
    return out


def _groups(parts: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; embeddings, biases, norms and single numbers are not. Pretrained weights have a pace."""
    tables = {id(module.weight) for module in parts.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, decay): [], (1.0, 0.0): []}
    for p in parts.parameters():
        decayed = p.ndim >= 2 and id(p) not in tables
        groups.setdefault((getattr(p, "pace", 1.0), decay if decayed else 0.0), []).append(p)
    return [{"params": held, "weight_decay": rate, "pace": pace} for (pace, rate), held in groups.items()]


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
    return (
        f"training {stage}: the loss of step {step + 1} is not a number ({said}); "
        'lower [training] learning_rate or set precision = "fp32"'
    )
