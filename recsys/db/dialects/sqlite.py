"""SQLite: multi-row INSERTs in one transaction; the lease is a lock on a file beside the database.

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

_MAX_ROWS = 200
"""Maximum rows of one INSERT: with more, preparing the statement costs what executing it saves."""
_MAX_VALUES = 30_000
"""Maximum values of one INSERT; SQLite allows 32,766."""
_BLOCK_ROWS = 50_000
"""Rows that are Python objects at a time."""


class Sqlite:
    """The dialect of SQLite."""

    def bulk_load(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """See Dialect. Constant columns are bound once per statement and referenced as ?1, ?2, ..."""
        if not frame.height:
            return
        frame, constants = rows.sort_by_key(table, frame), dict(constants or {})
        rows_per_statement = max(1, min(_MAX_ROWS, _MAX_VALUES // frame.width, frame.height))
        step = rows_per_statement * frame.width
        for start in range(0, frame.height, _BLOCK_ROWS):
            flat = _flatten_rows(frame.slice(start, _BLOCK_ROWS))
            full_statements = len(flat) - len(flat) % step
            self._insert(connection, table, frame.columns, constants, flat[:full_statements], rows_per_statement)
            self._insert(connection, table, frame.columns, constants, flat[full_statements:], 1)

    @staticmethod
    def _insert(
        connection: Connection,
        table: sa.Table,
        columns: Sequence[str],
        constants: Mapping[str, str],
        flat: list[Any],
        rows_per_statement: int,
    ) -> None:
        if not flat:
            return
        n_columns, first = len(columns), len(constants) + 1
        constant_marks = "".join(f"?{index}," for index in range(1, first))
        row_marks = (
            ",".join(f"?{first + row * n_columns + column}" for column in range(n_columns))
            for row in range(rows_per_statement)
        )
        values = ",".join(f"({constant_marks}{marks})" for marks in row_marks)
        names = ", ".join(f'"{name}"' for name in (*constants, *columns))
        constant_values, step = tuple(constants.values()), rows_per_statement * n_columns
        connection.exec_driver_sql(
            f'INSERT INTO "{table.name}" ({names}) VALUES {values}',  # noqa: S608 - names of recsys tables
            [(*constant_values, *flat[start : start + step]) for start in range(0, len(flat), step)],
        )

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        hash_column: str = "",
        keep: Sequence[str] = (),
    ) -> None:
        """See Dialect."""
        values = f"VALUES ({', '.join('?' * frame.width)})"
        statement = rows.upsert_sql(table, frame.columns, values, only_if_changed, hash_column, keep)
        if frame.height:
            connection.exec_driver_sql(statement, rows.drop_duplicate_keys(table, frame).rows())

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        statement = sqlite.insert(table).values(row).on_conflict_do_nothing()
        return connection.execute(statement).rowcount == 1

    def allow_async_commit(self, connection: Connection) -> None:
        """See Dialect. With a write-ahead log and `synchronous = NORMAL` this holds for every transaction."""

    def run_storage(self, table: sa.Table, run_id: str) -> sa.Table:  # noqa: ARG002
        """See Dialect. All runs share the table."""
        return table

    def create_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect. There is nothing to create."""

    def attach_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect. Rows belong to the table from their own transaction on."""

    def stored_run_ids(self, connection: Connection, table: sa.Table) -> list[str]:
        """See Dialect."""
        return rows.distinct_run_ids(connection, table)

    def delete_run_rows(self, engine: Engine, table: sa.Table, run_id: str) -> None:
        """See Dialect. Deletes in chunks: readers never wait, and the next writer waits for one chunk only."""
        key = [column.name for column in table.primary_key]
        names = ", ".join(f'"{name}"' for name in key)
        statement = (
            f'DELETE FROM "{table.name}" WHERE ({names}) IN '  # noqa: S608 - names of recsys tables
            f'(SELECT {names} FROM "{table.name}" WHERE run_id = ? LIMIT {rows.DELETE_BATCH_ROWS})'
        )
        deleted = rows.DELETE_BATCH_ROWS
        while deleted == rows.DELETE_BATCH_ROWS:
            with engine.begin() as connection:
                deleted = connection.exec_driver_sql(statement, (run_id,)).rowcount

    def vacuum(self, engine: Engine) -> None:
        """See Dialect. Rewrites the file; log pages still in use by readers are freed when those finish."""
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
        finally:
            connection.close()

    @contextmanager
    def lease(self, engine: Engine, *, on_exclusive: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect. The operating system releases the lock when its holder ends for any reason.

        The file `<database>.lease` is never deleted: otherwise two processes could lock two files of the same name.
        """
        name = engine.url.database
        if not name or name == ":memory:":
            yield
            return
        path = Path(name).with_name(Path(name).name + ".lease")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not acquire_lease(lambda mode: _try_flock(handle, mode), on_exclusive):
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                raise LeaseHeldError(
                    f"{holder} is working on {path.with_suffix('').name}; try again when it has finished"
                )
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(handle)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect. Every SQLite transaction reads one state; a streaming one does not wait for writers."""
        return engine.connect().execution_options(stream_results=True)

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        text = connection.execute(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def _try_flock(handle: int, mode: str) -> bool:
    """Lock a file "alone" or "together" without waiting; an existing lock of this handle is converted."""
    try:
        fcntl.flock(handle, {"alone": fcntl.LOCK_EX, "together": fcntl.LOCK_SH}[mode] | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flatten_rows(frame: pl.DataFrame) -> list[Any]:
    """Return all values, row by row, in one list: (height * width). Faster than one tuple per row."""
    flat: list[Any] = [None] * (frame.height * frame.width)
    for index, column in enumerate(frame.iter_columns()):
        flat[index :: frame.width] = column.to_list()
    return flat
