"""Progress of long-running work: its stages, their progress, wall-clock time and peak memory.

In: `with timer.stage("embed") as progress: progress(done, total, loss=0.3)`. Out: an updated display, times by stage.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from recsys.execution import signals


class Progress(Protocol):
    """Callback that reports progress; every call is also a safe point for a pending signal."""

    def __call__(self, done: int, total: int, /, **figures: float) -> None:
        """Report that `done` of `total` steps are done, with named figures such as losses."""
        ...


class ProgressDisplay(Protocol):
    """Interface of a progress display."""

    def begin(self, stage: str) -> None: ...

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None: ...

    def end(self, stage: str, seconds: float) -> None: ...


class StageTimer:
    """Times the stages of one command and forwards their progress to a display, if there is one.

    Attributes:
        seconds: wall-clock seconds by stage, in the order of their start.
        peak_mb: peak resident memory of the process in MB at the end of each stage.
    """

    def __init__(self, display: ProgressDisplay | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self._display = display
        self._started: dict[str, float] = {}

    def elapsed_seconds(self, name: str) -> float:
        """Return the seconds spent in a stage, including a stage that is still running."""
        running = time.perf_counter() - self._started[name] if name in self._started else 0.0
        return round(self.seconds.get(name, 0.0) + running, 3)

    @property
    def has_display(self) -> bool:
        """Whether progress is displayed."""
        return self._display is not None

    @contextmanager
    def stage(self, name: str, *, has_own_display: bool = False) -> Iterator[Progress]:
        """Time a stage; the times of a repeated stage are summed.

        Args:
            name: name of the stage.
            has_own_display: the work displays its own progress bar, so only its time is recorded.
        """
        started = self._started[name] = time.perf_counter()
        display = self._display
        if display is not None and not has_own_display:
            display.begin(name)

        def progress(done: int, total: int, /, **figures: float) -> None:
            if display is not None:
                display.update(name, done, total, figures)
            signals.raise_pending_signal()

        signals.raise_pending_signal()
        try:
            yield progress
        finally:
            seconds = time.perf_counter() - started
            self._started.pop(name, None)
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
            self.peak_mb[name] = peak_mb()
            if display is not None:
                display.end(name, seconds)


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB (Linux reports kB, macOS bytes)."""
    max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(max_rss / (1e6 if sys.platform == "darwin" else 1e3), 1)
