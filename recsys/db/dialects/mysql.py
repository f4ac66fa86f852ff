"""MySQL and MariaDB: many rows a statement, a named lock that ends with its session, deletes in pieces.

In: a connection inside a transaction, a frame whose columns are columns of the table. Out: rows in the table.
LOAD DATA LOCAL stays off: it would let a server read files of this machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from recsys.db.dialects import rows
from recsys.db.dialects.mysql_types import ID_LENGTH, IdText
from recsys.db.errors import to_recsys_error
from recsys.db.locks import acquire_lease
from recsys.errors import DatabaseUnavailableError, DataContractError, LeaseHeldError

log = logging.getLogger(__name__)

_STATEMENT = 500_000
"""Bytes of one INSERT, about: servers take 16 MB at least, and beyond this size nothing is gained."""
_BLOCK = 50_000
"""Rows turned into SQL at a time."""
_LEASE = "CONCAT('recsys.', MD5(DATABASE()))"
_SEATS = 256
"""Parts of a run at work at the same time, at most."""
_DUPLICATE = 1062


class MySql:
    """The dialect of MySQL and MariaDB."""

    def bulk_load(
        self, connection: Connection, table: sa.Table, frame: pl.DataFrame, *, same: Mapping[str, str] | None = None
    ) -> None:
        """See Dialect."""
        self._insert(connection, table, rows.whole(rows.in_order(table, frame), same), "")

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
        key = [column.name for column in table.primary_key]
        # from left to right: whatever looks at the old mark comes before the mark itself is replaced
        sets = [
            f'"{name}" = IF("{mark}" <=> VALUES("{mark}"), "{name}", VALUES("{name}"))'
            for name in frame.columns
            if name in only_if_changed
        ]
        sets += [f'"{name}" = VALUES("{name}")' for name in frame.columns if name not in (*key, *only_if_changed)]
        action = ", ".join(sets or [f'"{key[0]}" = "{key[0]}"'])
        self._insert(connection, table, rows.last_of_each_key(table, frame), f" ON DUPLICATE KEY UPDATE {action}")

    @staticmethod
    def _insert(connection: Connection, table: sa.Table, frame: pl.DataFrame, end: str) -> None:
        _refuse_long_ids(table, frame)
        names = ", ".join(f'"{name}"' for name in frame.columns)
        start = f'INSERT INTO "{table.name}" ({names}) VALUES '  # noqa: S608 - names are our own tables
        cursor = connection.connection.cursor()
        try:
            for offset in range(0, frame.height, _BLOCK):
                block = _tuples(table, frame.slice(offset, _BLOCK))
                together = max(1, _STATEMENT // int(block.str.len_bytes().max() or 1))  # type: ignore[arg-type]
                for first in range(0, len(block), together):
                    cursor.execute(start + block.slice(first, together).str.join(",").item() + end)
        except Exception as error:
            replacement = to_recsys_error(error)
            if replacement is not None:
                raise replacement from error
            raise
        finally:
            cursor.close()

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        try:
            connection.execute(sa.insert(table).values(row))
        except IntegrityError as error:  # undoes this statement, not the transaction
            if error.orig is not None and error.orig.args[0] == _DUPLICATE:
                return False
            raise
        return True

    def without_timeout(self, connection: Connection) -> None:
        """See Dialect. The server decides that for all (innodb_flush_log_at_trx_commit)."""

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
        """See Dialect. Piece by piece: readers never wait, and no transaction grows large."""
        some = sa.text(f'DELETE FROM "{table.name}" WHERE run_id = :run LIMIT {rows.PIECE}')  # noqa: S608
        gone = rows.PIECE
        while gone == rows.PIECE:
            with engine.begin() as connection:
                gone = connection.execute(some, {"run": run_id}).rowcount

    def overwrite(self, engine: Engine) -> None:
        """See Dialect. InnoDB purges deleted rows by itself, a moment later."""

    @contextmanager
    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect. Named locks are not shared here: each part of a run has a lock of its own, a seat.

        Whoever takes a seat, or wants the store alone, holds the one lock in the middle meanwhile.
        """
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def ask(how: str) -> bool:
                if not _call(connection, "GET_LOCK", _LEASE):
                    return False
                seats = (f"CONCAT({_LEASE}, '.{seat}')" for seat in range(_SEATS))
                if how == "alone":
                    had = all(_call(connection, "IS_FREE_LOCK", seat) for seat in seats)
                else:
                    had = any(_call(connection, "GET_LOCK", seat) for seat in seats)
                if how == "together" or not had:
                    _call(connection, "RELEASE_LOCK", _LEASE)
                return had

            held = acquire_lease(ask, shared)
            if held == "both":
                _call(connection, "RELEASE_LOCK", _LEASE)
            if not held:
                raise LeaseHeldError("another process is working on this database's store; try again when it is done")
            try:
                yield
            finally:
                self._release(connection)

    @staticmethod
    def _release(connection: Connection) -> None:
        try:
            _call(connection, "RELEASE_ALL_LOCKS", "")
        except DatabaseUnavailableError as error:  # the lock went with its session: nothing is left to give back
            log.warning("the lease ended before the work did: %s", error)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect."""
        return engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ")

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        value: datetime = connection.execute(sa.text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
        return value.replace(tzinfo=UTC)


def _call(connection: Connection, function: str, lock: str) -> bool:
    """Call a function of named locks, which never waits; whether it says yes."""
    told = f"{lock}, 0" if function == "GET_LOCK" else lock
    return bool(connection.execute(sa.text(f"SELECT {function}({told})")).scalar_one() == 1)  # noqa: S608 - ours


def _refuse_long_ids(table: sa.Table, frame: pl.DataFrame) -> None:
    for name, kind in frame.schema.items():
        mapped = table.c[name].type.dialect_impl(_HERE)
        if kind != pl.String or not isinstance(mapped, IdText):
            continue
        long = frame[name].filter(frame[name].str.len_chars() > ID_LENGTH)
        if len(long):
            raise DataContractError(
                f"{table.name}: {name} {long[0][:40]!r}... has {len(long[0])} characters, and MySQL and MariaDB "
                f"keep ids of at most {ID_LENGTH}; shorten it, or use PostgreSQL or SQLite"
            )


_HERE = sa.dialects.registry.load("mysql.pymysql")()


def _tuples(table: sa.Table, frame: pl.DataFrame) -> pl.Series:
    """Each row as SQL: ('u1',1,NULL)."""
    for column in frame.select(pl.col(pl.Float32, pl.Float64)).iter_columns():
        if column.is_infinite().any():
            raise DataContractError(
                f"{table.name}: {column.name} is infinite, and MySQL and MariaDB have no such number"
            )
    fields = [_literal(name, kind).fill_null("NULL") for name, kind in frame.schema.items()]
    return frame.select(pl.concat_str(pl.lit("("), pl.concat_str(fields, separator=","), pl.lit(")"))).to_series()


def _literal(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as SQL literals; NULL stays null."""
    column = pl.col(name)
    if kind == pl.String:
        for plain, escaped in (("\\", "\\\\"), ("'", "''"), ("\0", "\\0")):
            column = column.str.replace_all(plain, escaped, literal=True)
        return pl.concat_str(pl.lit("'"), column, pl.lit("'"))
    if kind == pl.Binary:
        return pl.concat_str(pl.lit("x'"), column.bin.encode("hex"), pl.lit("'"))
    if kind == pl.Boolean:
        return column.cast(pl.Int8).cast(pl.String)
    if kind.is_float():
        return column.fill_nan(None).cast(pl.String)
    return column.cast(pl.String)
