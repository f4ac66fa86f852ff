"""What a training says while it runs: a bar or a line for people, metrics.jsonl and TensorBoard for later.

In: step and named numbers. Out: stderr, `metrics.jsonl`, TensorBoard events.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY: Final = 10
"""Steps between two lines of metrics.jsonl."""
_LINE_SECONDS: Final = 30.0


class MetricLogger:
    """Context manager around one training.

    Attributes:
        said: the smoothed value of each number at the end.
        noted: numbers of `note` by name, the last of each.
        waiting: share of the time that was spent waiting for batches.
    """

    def __init__(self, folder: Path, *, stage: str, first: int, steps: int, per_step: int, progress: bool) -> None:
        self.stage, self.steps, self.per_step, self.said = stage, steps, per_step, dict[str, float]()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._cut(first)
        self._file = self._path.open("a", encoding="utf-8")
        self._board_folder = folder / "tensorboard" / stage
        self._first, self._spoken = first, time.monotonic()
        self.noted: dict[str, float] = {}
        self._new: dict[str, float] = {}
        self._began = self._clock = time.monotonic()
        self._clock_step, self._clock_waited, self.waiting = first, 0.0, 0.0
        self._bar: Progress | None = None
        if progress and sys.stderr.isatty():
            columns = (
                TextColumn(stage),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(stage, total=steps, completed=first, said="")
        self._speaks = progress

    def _cut(self, first: int) -> None:
        """Drop the lines of this stage from step `first` on: the steps are about to be done again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            held = [(line, json.loads(line)) for line in lines if line.endswith("}")]
            kept = [line for line, row in held if row["stage"] != self.stage or row["step"] <= first]
            self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def __enter__(self) -> MetricLogger:
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(self._board_folder), purge_step=self._first)
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._file.close()
        self._board.close()

    def log_metrics(self, numbers: Mapping[str, float]) -> None:
        """Numbers that are not of every step: they are written with the next line."""
        self._new.update(numbers)
        self.noted.update(numbers)

    def step(self, done: int, numbers: Mapping[str, float], *, waited: float = 0.0) -> None:
        """Take note of step number `done` (1 = the first); `waited` seconds so far for the batches of all steps."""
        for name, value in numbers.items():
            self.said[name] = value if name not in self.said else 0.95 * self.said[name] + 0.05 * value
        text = " ".join(f"{name} {self.said[name]:.3f}" for name in numbers)
        if self._bar:
            self._bar.update(self._task, completed=done, said=text)
        now = time.monotonic()
        if done % _EVERY == 0 or done == self.steps:
            seconds = max(now - self._clock, 1e-9)
            rate = (done - self._clock_step) * self.per_step / seconds
            said = {**numbers, **self._new, "waiting": (waited - self._clock_waited) / seconds}
            self.waiting = waited / max(now - self._began, 1e-9)
            self._clock, self._clock_step, self._clock_waited, self._new = now, done, waited, {}
            row = {
                "stage": self.stage,
                "step": done,
                **{name: _rounded(value) for name, value in said.items()},
                "per_second": round(rate, 1),
            }
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in said.items():
                self._board.add_scalar(f"{self.stage}/{name}", value, done)
        if self._speaks and not self._bar and (now - self._spoken > _LINE_SECONDS or done == self.steps):
            self._spoken = now
            sys.stderr.write(f"training {self.stage}: step {done} of {self.steps}, {text}\n")
            sys.stderr.flush()

    def log_validation(self, done: int, metric: str, value: float) -> None:
        """Take note of how good the model is after step number `done`."""
        row = {"stage": self.stage, "step": done, metric: _rounded(value)}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        self._board.add_scalar(f"{self.stage}/{metric}", value, done)
        if self._speaks and not self._bar:
            sys.stderr.write(f"training {self.stage}: after step {done} of {self.steps}, {metric} {value:.4f}\n")
            sys.stderr.flush()

    def final_metrics(self) -> dict[str, float]:
        """Smoothed losses, what was noted last, the share of waiting; nothing where no step was made."""
        if not self.said:
            return {}
        losses = {name: value for name, value in self.said.items() if name != "gradient"}
        return {**losses, **self.noted, "waiting": self.waiting}


class NullLogger(MetricLogger):
    """The journal of a process that helps another: nothing is written or said."""

    def __init__(self, folder: Path, **_: Any) -> None:
        self.folder = folder

    def __enter__(self) -> NullLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def log_metrics(self, numbers: Mapping[str, float]) -> None:
        """Not noted."""

    def step(self, done: int, numbers: Mapping[str, float], *, waited: float = 0.0) -> None:
        """Not noted."""

    def log_validation(self, done: int, metric: str, value: float) -> None:
        """Not noted."""

    def final_metrics(self) -> dict[str, float]:
        """None: process 0 tells them."""
        return {}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
