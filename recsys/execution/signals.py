"""Stop cleanly: SIGTERM and SIGINT raise `InterruptedRunError`, at once or at the next safe point.

In: the two signals. Out: an exception with exit code 143 or 130, raised where no work is left half done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from recsys.errors import InterruptedRunError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _State:
    """State of the signal handlers; a process has one set of them, so this class is not instantiated."""

    depth = 0
    pending: int | None = None


def _raise_interrupted(number: int) -> None:
    _State.pending = None
    name = signal.Signals(number).name
    raise InterruptedRunError(f"stopped by {name}; run the same command again to resume", signal_number=number)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _State.depth == 0 or _State.pending is not None:  # nothing to protect, or the second signal
        _raise_interrupted(number)
    _State.pending = number


@contextmanager
def handle_signals() -> Iterator[None]:
    """Convert the signals to errors inside the block (in the main thread; others never receive signals)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _State.pending = None


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer a signal until `raise_pending_signal` is called or the block ends.

    A second signal is not deferred. An error of the block itself takes precedence: a deferred signal never hides it.
    """
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    if _State.depth == 0:
        raise_pending_signal()


def raise_pending_signal() -> None:
    """Raise the signal deferred by `defer_signals`, if there is one.

    Raises:
        InterruptedRunError: a signal asked this process to stop.
    """
    if _State.pending is not None:
        _raise_interrupted(_State.pending)
