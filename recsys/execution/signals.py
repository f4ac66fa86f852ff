"""Stopping cleanly: SIGTERM and SIGINT become `InterruptedRunError`, at once or at the next safe point.

In: the two signals. Out: an exception with exit code 143 or 130, raised where nothing is half done.
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
    """A process has one set of signal handlers, so there is one of these."""

    depth = 0
    asked: int | None = None


def _raise(number: int) -> None:
    _State.asked = None
    name = signal.Signals(number).name
    raise InterruptedRunError(f"stopped by {name}; the same command goes on where it stopped", signal_number=number)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _State.depth == 0 or _State.asked is not None:  # nothing to protect, or asked for the second time
        _raise(number)
    _State.asked = number


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn the signals into errors inside the block (in the main thread; elsewhere signals never arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.asked = None


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold a signal back until `raise_pending_signal` is called or the block ends; a second signal is not held back.

    An error of the block itself goes first: a held signal never hides it.
    """
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    if _State.depth == 0:
        raise_pending_signal()


def raise_pending_signal() -> None:
    """Raise the signal held back by `defer_signals`, if one came.

    Raises:
        InterruptedRunError: a signal asked this process to stop.
    """
    if _State.asked is not None:
        _raise(_State.asked)
