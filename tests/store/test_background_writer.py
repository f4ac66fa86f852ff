"""Writing behind scoring: order, errors, signals, and what is left for the next try."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import polars as pl
import pytest

from recsys.errors import InterruptedRunError
from recsys.execution import signals as stop
from recsys.store.background_writer import BackgroundWriter
from recsys.store.carried_lists import CarriedOverLists
from recsys.store.run_writer import RunWriter
from recsys.store.store import Store
from tests.store.samples import MANIFEST, held, invariants, shard


def _watched(
    run: RunWriter, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]
) -> list[tuple[int, int | None]]:
    """Note shard and thread of each write, after `before` was called with the shard's number."""
    written: list[tuple[int, int | None]] = []
    write = run.write_shard

    def noted(
        shard_id: int, frame: pl.DataFrame, *, n_users: int, carried_over: CarriedOverLists | None = None
    ) -> bool:
        before(shard_id)
        written.append((shard_id, threading.get_ident()))
        return write(shard_id, frame, n_users=n_users, carried_over=carried_over)

    monkeypatch.setattr(run, "write_shard", noted)
    return written


def test_shards_are_written_in_order_while_the_next_are_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [threading.Event() for _ in range(7)]
    with store.begin_run("recommend", MANIFEST) as run:
        # the write of a shard waits until the next one is made: with writing and making in turns this would never end
        written = _watched(run, monkeypatch, lambda at: made[at + 1].wait(60) or pytest.fail("waits for its write"))
        with BackgroundWriter(run) as writer:
            for number in range(6):
                made[number].set()
                writer.write(number, shard(number, "x"), n_users=5)
            made[6].set()
        assert [number for number, _ in written] == list(range(6))
        assert threading.get_ident() not in {thread for _, thread in written}
        assert run.finished_shards == set(range(6))
        run.finish({"users": 30})
        store.publish(run.run_id)
    invariants(store)


def test_an_error_of_the_writing_comes_out_and_nothing_is_written_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        if number == 2:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"), store.begin_run("recommend", MANIFEST) as run:
        written = _watched(run, monkeypatch, full)
        with BackgroundWriter(run) as writer:
            for number in range(12):
                writer.write(number, shard(number, "x"), n_users=5)
    assert [number for number, _ in written] == [0, 1]
    assert store.run(run.run_id)["reason"] == "no space"
    assert store.begin_run("recommend", MANIFEST).finished_shards == {0, 1}
    invariants(store)


def test_an_error_of_the_last_write_comes_out_at_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space")

    with store.begin_run("recommend", MANIFEST) as run:
        _watched(run, monkeypatch, full)
        with pytest.raises(OSError, match="no space"), BackgroundWriter(run) as writer:
            writer.write(0, shard(0, "x"), n_users=5)
        with pytest.raises(KeyError) as scoring, BackgroundWriter(run) as writer:
            writer.write(0, shard(0, "x"), n_users=5)
            raise KeyError("scoring")
    assert scoring.value.__notes__ == ["and the last shards were not written: no space"]


def test_what_was_handed_over_before_an_error_is_written(store: Store) -> None:
    with pytest.raises(KeyError), store.begin_run("recommend", MANIFEST) as run, BackgroundWriter(run) as writer:
        writer.write(0, shard(0, "x"), n_users=5)
        writer.write(1, shard(1, "x"), n_users=5)
        raise KeyError("scoring")
    assert store.begin_run("recommend", MANIFEST).finished_shards == {0, 1}
    assert held(store)[run.run_id] == shard(0, "x").height + shard(1, "x").height


def test_a_signal_in_the_middle_of_a_write_waits_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, told = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        writing.set()
        assert told.wait(60)

    with (
        pytest.raises(InterruptedRunError) as stopped,
        stop.handle_signals(),
        store.begin_run("recommend", MANIFEST) as run,
    ):
        _watched(run, monkeypatch, slow)
        with BackgroundWriter(run) as writer:
            writer.write(0, shard(0, "x"), n_users=5)
            assert writing.wait(60)
            threading.Timer(0.05, told.set).start()
            os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.exit_code == 143
    assert store.begin_run("recommend", MANIFEST).finished_shards == {0}


def test_a_store_in_memory_is_written_at_once() -> None:
    with Store.open("sqlite://") as store:
        store.init()
        with store.begin_run("recommend", MANIFEST) as run, BackgroundWriter(run) as writer:
            writer.write(0, shard(0, "x"), n_users=5)
            assert run.finished_shards == {0}
