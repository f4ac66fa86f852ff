"""What differs between databases: bulk loads, upserts, where a run's rows lie, the clock, and the lease of a store.

In: an engine. Out: its `Dialect`. A new database is one module here and one line in `dialect_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

_KNOWN = {"postgresql": ("postgres", "Postgres"), "mysql": ("mysql", "MySql"), "sqlite": ("sqlite", "Sqlite")}


class Dialect(Protocol):
    """One database's way of doing what SQL leaves open."""

    def bulk_load(
        self, connection: Connection, table: sa.Table, frame: pl.DataFrame, *, same: Mapping[str, str] | None = None
    ) -> None:
        """Insert all rows of `frame`, in the order of the table's key, inside the connection's transaction.

        Args:
            connection: in a transaction.
            table: where to.
            frame: columns of the table.
            same: further columns, each with one value for all rows; they go without being copied row by row.
        """
        ...

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        """Insert, or replace the row with the same key; of several rows of one key in the frame the last wins.

        Column `only_if_changed` (a stamp such as updated_at) moves only when column `mark` (a hash) differs.
        """
        ...

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert one row unless its key is there; say whether it was inserted."""
        ...

    def without_timeout(self, connection: Connection) -> None:
        """This transaction need not be on the disk when its commit returns; it may be lost, but only whole.

        A later one that is not unhurried brings it to the disk.
        """
        ...

    def run_storage(self, table: sa.Table, run_id: str) -> sa.Table:
        """Where the rows of a run are written: `table` itself, or the run's own part of it."""
        ...

    def create_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """Make the place of a run that is being written, unless it is there."""
        ...

    def attach_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """All rows of a run are in its place: from the end of this transaction on they are rows of `table`."""
        ...

    def run_ids(self, connection: Connection, table: sa.Table) -> list[str]:
        """Ids of the runs that have rows, or an empty place, in `table`, whether sealed or not."""
        ...

    def delete_run_rows(self, engine: Engine, table: sa.Table, run_id: str) -> None:
        """Take away the rows of a run that nobody is pointed to, in transactions of its own that block no reader.

        Killed half way, it is finished by calling it again.
        """
        ...

    def overwrite(self, engine: Engine) -> None:
        """What was deleted goes from the database's files too, as far as the database can be told to, now."""
        ...

    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Any:
        """Context manager: hold the store alone; raises LeaseHeldError at once when another process does.

        With `shared`, hold it together with others that share it: see `db.lease`.
        """
        ...

    def snapshot(self, engine: Engine) -> Connection:
        """A connection whose statements all read the same state, that of the first of them."""
        ...

    def now(self, connection: Connection) -> datetime:
        """The database's clock, UTC."""
        ...


def dialect_for(engine: Engine) -> Dialect:
    """The dialect of an engine; the others are not loaded."""
    from importlib import import_module

    module, name = _KNOWN[engine.dialect.name]
    made: Dialect = getattr(import_module(f"recsys.db.dialects.{module}"), name)()
    return made


def sql_times(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Turn UTC seconds (Int64) into the text every database reads as a UTC timestamp."""
    return frame.with_columns(
        pl.from_epoch(pl.col(name), time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S.000000")
        for name in columns
        if name in frame.columns and frame.schema[name].is_integer()
    )
