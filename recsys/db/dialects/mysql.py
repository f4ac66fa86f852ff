"""MySQL and MariaDB: multi-row INSERTs, a named lock that ends with its session, deletes in chunks.

In: a connection inside a transaction, a frame whose columns are columns of the table. Out: rows in the table.
LOAD DATA LOCAL is not used: it would let a server read files of this machine.
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

_STATEMENT_BYTES = 500_000
"""Approximate size of an INSERT: servers accept at least 16 MB, larger statements are not faster."""
_BLOCK_ROWS = 50_000
"""Rows converted to SQL at a time."""
_LEASE_NAME = "CONCAT('recsys.', MD5(DATABASE()))"
_MAX_PARTS = 256
"""Maximum number of parts that write a run at the same time."""
_DUPLICATE_KEY_ERROR = 1062


class MySql:
    """The dialect of MySQL and MariaDB."""

    def bulk_load(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """See Dialect."""
        self._insert(connection, table, rows.with_constant_columns(rows.sort_by_key(table, frame), constants), "")

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
        key = [column.name for column in table.primary_key]
        # evaluated from left to right: expressions that read the old hash come before its replacement
        assignments = [
            f'"{name}" = IF("{hash_column}" <=> VALUES("{hash_column}"), "{name}", VALUES("{name}"))'
            for name in frame.columns
            if name in only_if_changed
        ]
        assignments += [
            f'"{name}" = VALUES("{name}")' for name in frame.columns if name not in (*key, *only_if_changed, *keep)
        ]
        action = ", ".join(assignments or [f'"{key[0]}" = "{key[0]}"'])
        self._insert(connection, table, rows.drop_duplicate_keys(table, frame), f" ON DUPLICATE KEY UPDATE {action}")

    @staticmethod
    def _insert(connection: Connection, table: sa.Table, frame: pl.DataFrame, suffix: str) -> None:
        _refuse_long_ids(table, frame)
        names = ", ".join(f'"{name}"' for name in frame.columns)
        prefix = f'INSERT INTO "{table.name}" ({names}) VALUES '  # noqa: S608 - names of recsys tables
        cursor = connection.connection.cursor()
        try:
            for offset in range(0, frame.height, _BLOCK_ROWS):
                block = _to_sql_tuples(table, frame.slice(offset, _BLOCK_ROWS))
                rows_per_statement = max(1, _STATEMENT_BYTES // int(block.str.len_bytes().max() or 1))  # type: ignore[arg-type]
                for first in range(0, len(block), rows_per_statement):
                    cursor.execute(prefix + block.slice(first, rows_per_statement).str.join(",").item() + suffix)
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
        except IntegrityError as error:  # rolls back this statement, not the transaction
            if error.orig is not None and error.orig.args[0] == _DUPLICATE_KEY_ERROR:
                return False
            raise
        return True

    def allow_async_commit(self, connection: Connection) -> None:
        """See Dialect. A setting of the server for all transactions (innodb_flush_log_at_trx_commit)."""

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
        """See Dialect. Deletes in chunks: readers never wait, and no transaction grows large."""
        statement = sa.text(f'DELETE FROM "{table.name}" WHERE run_id = :run LIMIT {rows.DELETE_BATCH_ROWS}')  # noqa: S608
        deleted = rows.DELETE_BATCH_ROWS
        while deleted == rows.DELETE_BATCH_ROWS:
            with engine.begin() as connection:
                deleted = connection.execute(statement, {"run": run_id}).rowcount

    def vacuum(self, engine: Engine) -> None:
        """See Dialect. InnoDB purges deleted rows by itself shortly afterwards."""

    @contextmanager
    def lease(self, engine: Engine, *, on_exclusive: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect. Named locks cannot be shared, so each part of a run takes a numbered lock.

        A process holds the main lock while it takes a numbered lock or checks that it is alone.
        """
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def try_lock(mode: str) -> bool:
                if not _call_lock_function(connection, "GET_LOCK", _LEASE_NAME):
                    return False
                part_locks = (f"CONCAT({_LEASE_NAME}, '.{number}')" for number in range(_MAX_PARTS))
                if mode == "alone":
                    succeeded = all(_call_lock_function(connection, "IS_FREE_LOCK", name) for name in part_locks)
                else:
                    succeeded = any(_call_lock_function(connection, "GET_LOCK", name) for name in part_locks)
                if mode == "together" or not succeeded:
                    _call_lock_function(connection, "RELEASE_LOCK", _LEASE_NAME)
                return succeeded

            acquired = acquire_lease(try_lock, on_exclusive)
            if acquired == "both":
                _call_lock_function(connection, "RELEASE_LOCK", _LEASE_NAME)
            if not acquired:
                raise LeaseHeldError(
                    "another process is working on this database's store; try again when it has finished"
                )
            try:
                yield
            finally:
                self._release(connection)

    @staticmethod
    def _release(connection: Connection) -> None:
        try:
            _call_lock_function(connection, "RELEASE_ALL_LOCKS", "")
        except DatabaseUnavailableError as error:  # the lock ended with its session: there is nothing to release
            log.warning("the lease ended before the work was finished: %s", error)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect."""
        return engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ")

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        value: datetime = connection.execute(sa.text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
        return value.replace(tzinfo=UTC)


def _call_lock_function(connection: Connection, function: str, lock: str) -> bool:
    """Call a named-lock function without waiting; return whether it succeeded."""
    arguments = f"{lock}, 0" if function == "GET_LOCK" else lock
    return bool(connection.execute(sa.text(f"SELECT {function}({arguments})")).scalar_one() == 1)  # noqa: S608 - names of recsys


def _refuse_long_ids(table: sa.Table, frame: pl.DataFrame) -> None:
    for name, dtype in frame.schema.items():
        sql_type = table.c[name].type.dialect_impl(_DIALECT)
        if dtype != pl.String or not isinstance(sql_type, IdText):
            continue
        too_long = frame[name].filter(frame[name].str.len_chars() > ID_LENGTH)
        if len(too_long):
            raise DataContractError(
                f"{table.name}: {name} {too_long[0][:40]!r}... has {len(too_long[0])} characters, and MySQL and "
                f"MariaDB store ids of at most {ID_LENGTH}; shorten it, or use PostgreSQL or SQLite"
            )


_DIALECT = sa.dialects.registry.load("mysql.pymysql")()


def _to_sql_tuples(table: sa.Table, frame: pl.DataFrame) -> pl.Series:
    """Convert each row to SQL: ('u1',1,NULL)."""
    for column in frame.select(pl.col(pl.Float32, pl.Float64)).iter_columns():
        if column.is_infinite().any():
            raise DataContractError(
                f"{table.name}: {column.name} is infinite, which MySQL and MariaDB cannot store; correct the value"
            )
    fields = [_to_sql_literal(name, dtype).fill_null("NULL") for name, dtype in frame.schema.items()]
    return frame.select(pl.concat_str(pl.lit("("), pl.concat_str(fields, separator=","), pl.lit(")"))).to_series()


def _to_sql_literal(name: str, dtype: pl.DataType) -> pl.Expr:
    """Convert a column to SQL literals; NULL stays null."""
    column = pl.col(name)
    if dtype == pl.String:
        for plain, escaped in (("\\", "\\\\"), ("'", "''"), ("\0", "\\0")):
            column = column.str.replace_all(plain, escaped, literal=True)
        return pl.concat_str(pl.lit("'"), column, pl.lit("'"))
    if dtype == pl.Binary:
        return pl.concat_str(pl.lit("x'"), column.bin.encode("hex"), pl.lit("'"))
    if dtype == pl.Boolean:
        return column.cast(pl.Int8).cast(pl.String)
    if dtype.is_float():
        return column.fill_nan(None).cast(pl.String)
    return column.cast(pl.String)
