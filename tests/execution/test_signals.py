"""Signals: at once outside protected blocks, at the safe point inside them, never swallowed, handlers given back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from recsys.errors import InterruptedRunError
from recsys.execution import signals as stop
from recsys.execution.progress import StageTimer


def kill(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_is_an_error_at_once() -> None:
    with pytest.raises(InterruptedRunError) as caught, stop.handle_signals():
        kill()
        pytest.fail("went on after the signal")
    assert caught.value.exit_code == 143


def test_a_deferred_signal_waits_for_the_check() -> None:
    done = []
    with pytest.raises(InterruptedRunError), stop.handle_signals(), stop.defer_signals():
        kill()
        done.append("half a step")
        stop.raise_pending_signal()
        done.append("too far")
    assert done == ["half a step"]


def test_a_deferred_signal_is_raised_at_the_end_of_the_block_but_not_of_an_inner_one() -> None:
    done = []
    with pytest.raises(InterruptedRunError), stop.handle_signals():
        with stop.defer_signals():
            with stop.defer_signals():
                kill()
            done.append("outer block goes on")
        done.append("too far")
    assert done == ["outer block goes on"]


def test_the_second_signal_does_not_wait() -> None:
    with pytest.raises(InterruptedRunError) as caught, stop.handle_signals(), stop.defer_signals():
        kill()
        kill(signal.SIGINT)
        pytest.fail("went on after the second signal")
    assert caught.value.exit_code == 130


def test_an_error_inside_goes_first_and_leaves_nothing_behind() -> None:
    with pytest.raises(ValueError, match="mine"), stop.handle_signals(), stop.defer_signals():
        kill()
        raise ValueError("mine")
    stop.raise_pending_signal()


def test_handlers_are_given_back_and_other_threads_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop.handle_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    seen = []
    thread = threading.Thread(target=lambda: seen.append(stop.handle_signals().__enter__()))
    thread.start()
    thread.join()
    assert seen == [None]


def test_progress_is_a_safe_point_and_times_are_summed() -> None:
    watch = StageTimer()
    with (
        pytest.raises(InterruptedRunError),
        stop.handle_signals(),
        watch.stage("score") as progress,
        stop.defer_signals(),
    ):
        kill()
        progress(1, 2)
        pytest.fail("went on after the safe point")
    with watch.stage("score"):
        pass
    assert list(watch.seconds) == ["score"]
    assert watch.peak_mb["score"] > 10
