"""SQLite: many rows a statement inside one transaction; the lease is a lock on a file beside the database.

In: a connection inside a transaction, a frame whose columns are columns of the table. Out: rows in the table.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine

from recsys.db.dialects import rows
from recsys.db.locks import acquire_lease
from recsys.errors import LeaseHeldError

_TOGETHER = 200
"""Rows of one INSERT at most: of more, preparing the statement costs what running it saves."""
_VALUES = 30_000
"""Values of one INSERT at most; SQLite allows 32,766."""
_BLOCK = 50_000
"""Rows that are Python objects at a time."""


class Sqlite:
    """The dialect of SQLite."""

    def bulk_load(
        self, connection: Connection, table: sa.Table, frame: pl.DataFrame, *, same: Mapping[str, str] | None = None
    ) -> None:
        """See Dialect. What is the same in every row is bound once a statement: ?1, ?2 ... stand for it."""
        if not frame.height:
            return
        frame, shared = rows.in_order(table, frame), dict(same or {})
        together = max(1, min(_TOGETHER, _VALUES // frame.width, frame.height))
        step = together * frame.width
        for start in range(0, frame.height, _BLOCK):
            flat = _row_by_row(frame.slice(start, _BLOCK))
            even = len(flat) - len(flat) % step
            self._insert(connection, table, frame.columns, shared, flat[:even], together)
            self._insert(connection, table, frame.columns, shared, flat[even:], 1)

    @staticmethod
    def _insert(
        connection: Connection,
        table: sa.Table,
        columns: Sequence[str],
        shared: Mapping[str, str],
        flat: list[Any],
        together: int,
    ) -> None:
        if not flat:
            return
        width, first = len(columns), len(shared) + 1
        fixed = "".join(f"?{place}," for place in range(1, first))
        marks = (",".join(f"?{first + row * width + at}" for at in range(width)) for row in range(together))
        values = ",".join(f"({fixed}{own})" for own in marks)
        names = ", ".join(f'"{name}"' for name in (*shared, *columns))
        before, step = tuple(shared.values()), together * width
        connection.exec_driver_sql(
            f'INSERT INTO "{table.name}" ({names}) VALUES {values}',  # noqa: S608 - names are our own tables
            [(*before, *flat[start : start + step]) for start in range(0, len(flat), step)],
        )

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        """See Dialect."""
        values = f"VALUES ({', '.join('?' * frame.width)})"
        statement = rows.upsert_sql(table, frame.columns, values, only_if_changed, mark)
        if frame.height:
            connection.exec_driver_sql(statement, rows.last_of_each_key(table, frame).rows())

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        statement = sqlite.insert(table).values(row).on_conflict_do_nothing()
        return connection.execute(statement).rowcount == 1

    def without_timeout(self, connection: Connection) -> None:
        """See Dialect. With a write-ahead log and `synchronous = NORMAL` every transaction is."""

    def run_storage(self, table: sa.Table, run_id: str) -> sa.Table:  # noqa: ARG002
        """See Dialect. All runs share the table."""
        return table

    def create_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect. There is nothing to make."""

    def attach_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect. Rows count from their own transaction on."""

    def run_ids(self, connection: Connection, table: sa.Table) -> list[str]:
        """See Dialect."""
        return rows.runs_in(connection, table)

    def delete_run_rows(self, engine: Engine, table: sa.Table, run_id: str) -> None:
        """See Dialect. Piece by piece: readers never wait, and the next writer waits for one piece only."""
        key = [column.name for column in table.primary_key]
        names = ", ".join(f'"{name}"' for name in key)
        some = (
            f'DELETE FROM "{table.name}" WHERE ({names}) IN '  # noqa: S608 - names are our own tables
            f'(SELECT {names} FROM "{table.name}" WHERE run_id = ? LIMIT {rows.PIECE})'
        )
        gone = rows.PIECE
        while gone == rows.PIECE:
            with engine.begin() as connection:
                gone = connection.exec_driver_sql(some, (run_id,)).rowcount

    def overwrite(self, engine: Engine) -> None:
        """See Dialect. The file is written anew; what readers still hold of its log goes when they are done."""
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
        finally:
            connection.close()

    @contextmanager
    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect. The system frees the lock when its holder dies, however it dies.

        The file `<database>.lease` stays: whoever deleted it would let two processes lock two files of one name.
        """
        name = engine.url.database
        if not name or name == ":memory:":
            yield
            return
        path = Path(name).with_name(Path(name).name + ".lease")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not acquire_lease(lambda how: _locked(handle, how), shared):
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                raise LeaseHeldError(f"{holder} is working on {path.with_suffix('').name}; try again when it is done")
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(handle)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect. Every transaction of SQLite reads one state; one that streams waits for no writer."""
        return engine.connect().execution_options(stream_results=True)

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        text = connection.execute(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def _locked(handle: int, how: str) -> bool:
    """Lock a file "alone" or "together" without waiting; a lock that this handle has is exchanged."""
    try:
        fcntl.flock(handle, {"alone": fcntl.LOCK_EX, "together": fcntl.LOCK_SH}[how] | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _row_by_row(frame: pl.DataFrame) -> list[Any]:
    """All values, row after row, in one list: (height * width). Faster than a tuple a row."""
    flat: list[Any] = [None] * (frame.height * frame.width)
    for at, column in enumerate(frame.iter_columns()):
        flat[at :: frame.width] = column.to_list()
    return flat
