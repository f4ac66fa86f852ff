"""Operations that differ between databases: bulk loads, upserts, run storage, clock, and lease.

In: an engine. Out: its `Dialect`. A new database needs one module here and one line in `_DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

_DIALECTS = {"postgresql": ("postgres", "Postgres"), "mysql": ("mysql", "MySql"), "sqlite": ("sqlite", "Sqlite")}


class Dialect(Protocol):
    """Interface of the database-specific operations."""

    def bulk_load(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """Insert all rows of `frame`, in key order, inside the connection's transaction.

        Args:
            connection: in a transaction.
            table: target table.
            frame: columns of the table.
            constants: further columns with one value for all rows; they are not copied row by row.
        """
        ...

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
        """Insert rows, or replace rows with the same key; for duplicate keys in the frame the last row wins.

        The columns `only_if_changed` (a timestamp such as updated_at) change only if column `hash_column` differs. The
        columns `keep` of existing rows do not change.
        """
        ...

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert one row unless its key exists; return whether it was inserted."""
        ...

    def allow_async_commit(self, connection: Connection) -> None:
        """Do not wait for the disk when this transaction commits; a crash may lose it, but only as a unit.

        A later transaction with a synchronous commit makes it durable.
        """
        ...

    def run_storage(self, table: sa.Table, run_id: str) -> sa.Table:
        """Return the table that the rows of a run are written to: `table` itself, or a partition."""
        ...

    def create_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """Create the storage of an unfinished run if it is missing."""
        ...

    def attach_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """Make the stored rows of a complete run rows of `table`, when this transaction commits."""
        ...

    def stored_run_ids(self, connection: Connection, table: sa.Table) -> list[str]:
        """Return the ids of runs that have rows or an empty storage in `table`, attached or not."""
        ...

    def delete_run_rows(self, engine: Engine, table: sa.Table, run_id: str) -> None:
        """Delete the rows of an unpublished run, in separate transactions that block no reader.

        After an interruption, call it again to delete the rest.
        """
        ...

    def vacuum(self, engine: Engine) -> None:
        """Remove deleted rows from the database files too, as far as the database supports it."""
        ...

    def lease(self, engine: Engine, *, on_exclusive: Callable[[], None] | None = None) -> Any:
        """Context manager: hold the store exclusively; raises LeaseHeldError at once if another process does.

        With `on_exclusive`, hold it together with other processes that share it: see `db.locks`.
        """
        ...

    def snapshot(self, engine: Engine) -> Connection:
        """Open a connection whose statements all read the state at its first statement."""
        ...

    def now(self, connection: Connection) -> datetime:
        """Return the time of the database's clock, UTC."""
        ...


def dialect_for(engine: Engine) -> Dialect:
    """Return the dialect of an engine; the modules of the other dialects are not imported."""
    from importlib import import_module

    module, name = _DIALECTS[engine.dialect.name]
    dialect: Dialect = getattr(import_module(f"recsys.db.dialects.{module}"), name)()
    return dialect


def sql_times(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Convert UTC seconds (Int64) to text that every database reads as a UTC timestamp."""
    return frame.with_columns(
        pl.from_epoch(pl.col(name), time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S.000000")
        for name in columns
        if name in frame.columns and frame.schema[name].is_integer()
    )
