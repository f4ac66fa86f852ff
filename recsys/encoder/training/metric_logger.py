"""Report the metrics of a training on stderr, in `metrics.jsonl` and in TensorBoard.

In: step and named numbers. Out: a progress bar or lines on stderr, `metrics.jsonl`, TensorBoard events.
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

_INTERVAL: Final = 10
"""Steps between two lines of metrics.jsonl."""
_LINE_SECONDS: Final = 30.0
"""Seconds between two progress lines on stderr."""


class MetricLogger:
    """Context manager that logs one training.

    Attributes:
        smoothed: smoothed value of each metric.
        last_logged: last value of each metric of `log_metrics`.
        waiting_share: share of the time spent waiting for batches.
    """

    def __init__(
        self, folder: Path, *, stage: str, first_step: int, steps: int, batch_size: int, progress: bool
    ) -> None:
        self.stage, self.steps, self.batch_size, self.smoothed = stage, steps, batch_size, dict[str, float]()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._drop_repeated_rows(first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._tensorboard_folder = folder / "tensorboard" / stage
        self._first, self._last_line_time = first_step, time.monotonic()
        self.last_logged: dict[str, float] = {}
        self._pending: dict[str, float] = {}
        self._start_time = self._interval_start = time.monotonic()
        self._interval_step, self._interval_waited, self.waiting_share = first_step, 0.0, 0.0
        self._bar: Progress | None = None
        if progress and sys.stderr.isatty():
            columns = (
                TextColumn(stage),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[losses]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(stage, total=steps, completed=first_step, losses="")
        self._progress = progress

    def _drop_repeated_rows(self, first: int) -> None:
        """Remove the rows of this stage after step `first`, because these steps are about to run again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            rows = [(line, json.loads(line)) for line in lines if line.endswith("}")]
            remaining = [line for line, row in rows if row["stage"] != self.stage or row["step"] <= first]
            self._path.write_text("".join(line + "\n" for line in remaining), encoding="utf-8")

    def __enter__(self) -> MetricLogger:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._tensorboard_folder), purge_step=self._first)
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._file.close()
        self._writer.close()

    def log_metrics(self, numbers: Mapping[str, float]) -> None:
        """Log metrics that are not computed in every step; they are written with the next line."""
        self._pending.update(numbers)
        self.last_logged.update(numbers)

    def log_step(self, done: int, numbers: Mapping[str, float], *, waited: float = 0.0) -> None:
        """Log step `done` (1 = the first).

        Args:
            done: number of finished steps.
            numbers: metrics of this step.
            waited: seconds spent waiting for batches so far, over all steps.
        """
        for name, value in numbers.items():
            self.smoothed[name] = value if name not in self.smoothed else 0.95 * self.smoothed[name] + 0.05 * value
        text = " ".join(f"{name} {self.smoothed[name]:.3f}" for name in numbers)
        if self._bar:
            self._bar.update(self._task, completed=done, losses=text)
        now = time.monotonic()
        if done % _INTERVAL == 0 or done == self.steps:
            seconds = max(now - self._interval_start, 1e-9)
            rate = (done - self._interval_step) * self.batch_size / seconds
            metrics = {**numbers, **self._pending, "waiting": (waited - self._interval_waited) / seconds}
            self.waiting_share = waited / max(now - self._start_time, 1e-9)
            self._interval_start, self._interval_step, self._interval_waited, self._pending = now, done, waited, {}
            row = {
                "stage": self.stage,
                "step": done,
                **{name: _round(value) for name, value in metrics.items()},
                "per_second": round(rate, 1),
            }
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in metrics.items():
                self._writer.add_scalar(f"{self.stage}/{name}", value, done)
        if self._progress and not self._bar and (now - self._last_line_time > _LINE_SECONDS or done == self.steps):
            self._last_line_time = now
            sys.stderr.write(f"training {self.stage}: step {done} of {self.steps}, {text}\n")
            sys.stderr.flush()

    def log_validation(self, done: int, metric: str, value: float) -> None:
        """Log the validation score after step `done`."""
        row = {"stage": self.stage, "step": done, metric: _round(value)}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        self._writer.add_scalar(f"{self.stage}/{metric}", value, done)
        if self._progress and not self._bar:
            sys.stderr.write(f"training {self.stage}: after step {done} of {self.steps}, {metric} {value:.4f}\n")
            sys.stderr.flush()

    def final_metrics(self) -> dict[str, float]:
        """Return smoothed losses, the last other metrics and the share of waiting; empty if no step was run."""
        if not self.smoothed:
            return {}
        losses = {name: value for name, value in self.smoothed.items() if name != "gradient"}
        return {**losses, **self.last_logged, "waiting": self.waiting_share}


class NullLogger(MetricLogger):
    """The logger of all processes but process 0: writes nothing."""

    def __init__(self, folder: Path, **_: Any) -> None:
        self.folder = folder

    def __enter__(self) -> NullLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: no file is open."""

    def log_metrics(self, numbers: Mapping[str, float]) -> None:
        """Do nothing."""

    def log_step(self, done: int, numbers: Mapping[str, float], *, waited: float = 0.0) -> None:
        """Do nothing."""

    def log_validation(self, done: int, metric: str, value: float) -> None:
        """Do nothing."""

    def final_metrics(self) -> dict[str, float]:
        """Return nothing: process 0 reports the metrics."""
        return {}


def _round(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
