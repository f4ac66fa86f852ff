"""Writing behind scoring: one thread writes a shard while the next is made.

In: shards in order. Out: the same shards in the run, in the same order; what goes wrong there comes out here.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Self

import polars as pl
import sqlalchemy as sa

from recsys.execution import signals as stop
from recsys.store.carried_lists import CarriedOverLists
from recsys.store.run_writer import RunWriter

_Shard = tuple[int, pl.DataFrame, int, CarriedOverLists | None]
_AHEAD = 1
"""Shards that wait while one is written: what memory holds, and what a signal to stop has to wait for."""


class BackgroundWriter:
    """Writes a run's shards in a thread of its own. In a `with` block: at its end all shards are in the store.

    Leaving the block early, by an error or a signal, still writes the shards that were handed over, so nothing scored
    is lost; leaving it by an error of the writing itself does not. A second signal does not wait.
    """

    def __init__(self, run: RunWriter) -> None:
        self._run = run
        self._error: BaseException | None = None
        self._waiting: queue.Queue[_Shard | None] = queue.Queue(_AHEAD)
        # a daemon: a process that is told twice to stop does not wait for it, and its transaction is undone
        self._thread = threading.Thread(target=self._work, name="recsys-writer", daemon=True)
        # a database in memory has one connection, which two threads would share
        self._here = isinstance(run.engine.pool, sa.StaticPool)

    def __enter__(self) -> Self:
        if not self._here:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._here:
            with stop.defer_signals():
                self._waiting.put(None)
                self._thread.join()
        if self._error is None or self._error is error:
            return
        if error is None:
            raise self._error
        error.add_note(f"and the last shards were not written: {self._error}")

    def write(self, shard_id: int, frame: pl.DataFrame, *, n_users: int, kept: CarriedOverLists | None = None) -> None:
        """Hand a shard over; waits while too many wait. See `RunWriter.write`.

        Raises:
            Exception: what writing an earlier shard raised; nothing after it was written.
        """
        if self._here:
            with stop.defer_signals():
                self._run.write_shard(shard_id, frame, n_users=n_users, kept=kept)
            return
        if self._error is not None:
            raise self._error
        self._waiting.put((shard_id, frame, n_users, kept))

    def _work(self) -> None:
        while (shard := self._waiting.get()) is not None:
            if self._error is None:
                shard_id, frame, n_users, kept = shard
                try:
                    self._run.write_shard(shard_id, frame, n_users=n_users, kept=kept)
                except BaseException as error:  # told where the shards come from
                    self._error = error
