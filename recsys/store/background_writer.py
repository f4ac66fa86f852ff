"""Write shards in a background thread while the next shard is scored.

In: shards in order. Out: the same shards in the run, in the same order; errors of the thread are raised here.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Self

import polars as pl
import sqlalchemy as sa

from recsys.execution import signals
from recsys.store.carried_lists import CarriedOverLists
from recsys.store.run_writer import RunWriter

_Shard = tuple[int, pl.DataFrame, int, CarriedOverLists | None]
_QUEUE_SIZE = 1
"""Shards that wait while one is written; bounds memory and the time until a signal takes effect."""


class BackgroundWriter:
    """Writes a run's shards in a thread. Use it in a `with` block; at its end all shards are in the store.

    If the block ends early, by an error or a signal, queued shards are still written, so that no scored shard is lost;
    after an error of the writing itself they are dropped. A second signal does not wait for them.
    """

    def __init__(self, run: RunWriter) -> None:
        self._run = run
        self._error: BaseException | None = None
        self._queue: queue.Queue[_Shard | None] = queue.Queue(_QUEUE_SIZE)
        # a daemon: on a second signal the process exits without waiting, and the open transaction is rolled back
        self._thread = threading.Thread(target=self._write_queued_shards, name="recsys-writer", daemon=True)
        # an in-memory database has one connection, which two threads must not share
        self._synchronous = isinstance(run.engine.pool, sa.StaticPool)

    def __enter__(self) -> Self:
        if not self._synchronous:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._synchronous:
            with signals.defer_signals():
                self._queue.put(None)
                self._thread.join()
        if self._error is None or self._error is error:
            return
        if error is None:
            raise self._error
        error.add_note(f"and the last shards were not written: {self._error}")

    def write(
        self, shard_id: int, frame: pl.DataFrame, *, n_users: int, carried_over: CarriedOverLists | None = None
    ) -> None:
        """Queue a shard; blocks while the queue is full. See `RunWriter.write_shard`.

        Raises:
            Exception: the error of writing an earlier shard; no later shard was written.
        """
        if self._synchronous:
            with signals.defer_signals():
                self._run.write_shard(shard_id, frame, n_users=n_users, carried_over=carried_over)
            return
        if self._error is not None:
            raise self._error
        self._queue.put((shard_id, frame, n_users, carried_over))

    def _write_queued_shards(self) -> None:
        while (shard := self._queue.get()) is not None:
            if self._error is None:
                shard_id, frame, n_users, kept = shard
                try:
                    self._run.write_shard(shard_id, frame, n_users=n_users, carried_over=kept)
                except BaseException as error:  # raised in the thread that queues the shards
                    self._error = error
