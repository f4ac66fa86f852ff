"""What long work tells whoever watches: its stages, how far it is, its seconds and its memory.

In: `with watch.stage("embed") as progress: progress(done, total, loss=0.3)`. Out: a screen updated, times by stage.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from recsys.execution import signals as stop


class Progress(Protocol):
    """How far a stage is; every call is also a safe point to stop at."""

    def __call__(self, done: int, total: int, /, **figures: float) -> None:
        """Tell that `done` of `total` are done, with named figures such as losses."""
        ...


class ProgressDisplay(Protocol):
    """Where progress is shown."""

    def begin(self, stage: str) -> None: ...

    def update(self, stage: str, done: int, total: int, figures: dict[str, float]) -> None: ...

    def end(self, stage: str, seconds: float) -> None: ...


class StageTimer:
    """Times the stages of one command and passes their progress to a screen, when there is one.

    Attributes:
        seconds: wall-clock seconds by stage, in the order they began.
        peak_mb: highest resident memory of the process in MB at the end of each stage.
    """

    def __init__(self, screen: ProgressDisplay | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self._screen = screen
        self._since: dict[str, float] = {}

    def elapsed(self, name: str) -> float:
        """Seconds spent in a stage, the time since it began this once included."""
        running = time.perf_counter() - self._since[name] if name in self._since else 0.0
        return round(self.seconds.get(name, 0.0) + running, 3)

    @property
    def shown(self) -> bool:
        """Whether anybody sees progress."""
        return self._screen is not None

    @contextmanager
    def stage(self, name: str, *, draws_itself: bool = False) -> Iterator[Progress]:
        """Time a stage; one that runs twice is summed.

        Args:
            name: of the stage.
            draws_itself: the work has a progress bar of its own, so that only its time is shown.
        """
        started = self._since[name] = time.perf_counter()
        screen = self._screen
        if screen is not None and not draws_itself:
            screen.begin(name)

        def progress(done: int, total: int, /, **figures: float) -> None:
            if screen is not None:
                screen.update(name, done, total, figures)
            stop.raise_pending_signal()

        stop.raise_pending_signal()
        try:
            yield progress
        finally:
            spent = time.perf_counter() - started
            self._since.pop(name, None)
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
            self.peak_mb[name] = peak_mb()
            if screen is not None:
                screen.end(name, spent)


def peak_mb() -> float:
    """Highest resident memory of this process so far, in MB (Linux tells kB, macOS bytes)."""
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(high / (1e6 if sys.platform == "darwin" else 1e3), 1)
