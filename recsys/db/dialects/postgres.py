"""PostgreSQL: COPY, a partition for each run, and an advisory lock that ends with its session.

In: a connection inside a transaction, a frame whose columns are columns of the table. Out: rows in the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Engine

from recsys.db.dialects import binary_copy, partitions, rows
from recsys.db.errors import to_recsys_error
from recsys.db.locks import acquire_lease
from recsys.errors import DatabaseUnavailableError, LeaseHeldError

log = logging.getLogger(__name__)

_LEASE_KEY = 0x7265_6373_7973  # "recsys"; one advisory lock per PostgreSQL database


class Postgres:
    """The dialect of PostgreSQL."""

    def bulk_load(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """See Dialect."""
        self._copy_frame(connection, table, table.name, rows.sort_by_key(table, frame), constants or {})

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
        """See Dialect. COPY into a temporary table of the same shape, then one INSERT ... ON CONFLICT."""
        if not frame.height:
            return
        staging = f"incoming_{table.name}"
        connection.exec_driver_sql(
            f'CREATE TEMP TABLE "{staging}" (LIKE "{table.name}" INCLUDING DEFAULTS) ON COMMIT DROP'
        )
        self._copy_frame(connection, table, staging, rows.drop_duplicate_keys(table, frame), {})
        names = ", ".join(f'"{name}"' for name in frame.columns)
        values = f'SELECT {names} FROM "{staging}"'  # noqa: S608
        connection.exec_driver_sql(rows.upsert_sql(table, frame.columns, values, only_if_changed, hash_column, keep))
        connection.exec_driver_sql(f'DROP TABLE "{staging}"')

    @staticmethod
    def _copy_frame(
        connection: Connection, table: sa.Table, target: str, frame: pl.DataFrame, constants: Mapping[str, str]
    ) -> None:
        if not frame.height:
            return
        columns = ", ".join(f'"{column}"' for column in (*constants, *frame.columns))
        blocks = binary_copy.encode_blocks(table, frame, constants)
        options = "" if blocks is None else " (FORMAT BINARY)"
        cursor = connection.connection.cursor()
        try:
            with cursor.copy(f'COPY "{target}" ({columns}) FROM STDIN{options}') as copy:
                if blocks is None:
                    for row in frame.iter_rows(buffer_size=10_000):
                        copy.write_row((*constants.values(), *row))
                else:
                    for block in blocks:
                        copy.write(block)
        except Exception as error:
            replacement = to_recsys_error(error)
            if replacement is not None:
                raise replacement from error
            raise
        finally:
            cursor.close()

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        # this driver does not set rowcount for an INSERT: the returned row shows that it was inserted
        statement = postgresql.insert(table).values(row).on_conflict_do_nothing().returning(sa.literal(1))
        return connection.execute(statement).first() is not None

    def allow_async_commit(self, connection: Connection) -> None:
        """See Dialect."""
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    def run_storage(self, table: sa.Table, run_id: str) -> sa.Table:
        """See Dialect. A partitioned table has one partition per run."""
        return partitions.partition_table(table, run_id) if partitions.supports_partitions(table) else table

    def create_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect."""
        if partitions.supports_partitions(table):
            partitions.create_partition(connection, table, run_id)

    def attach_run_storage(self, connection: Connection, table: sa.Table, run_id: str) -> None:
        """See Dialect."""
        if partitions.supports_partitions(table):
            partitions.attach_partition(connection, table, run_id)

    def stored_run_ids(self, connection: Connection, table: sa.Table) -> list[str]:
        """See Dialect."""
        return (
            partitions.partition_run_ids(connection, table)
            if partitions.supports_partitions(table)
            else rows.distinct_run_ids(connection, table)
        )

    def delete_run_rows(self, engine: Engine, table: sa.Table, run_id: str) -> None:
        """See Dialect."""
        if partitions.supports_partitions(table):
            partitions.drop_partition(engine, table, run_id)
            return
        with engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.run_id == run_id))

    def vacuum(self, engine: Engine) -> None:
        """See Dialect. Frees the space for reuse; how long the write-ahead log is kept is a server setting."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")

    @contextmanager
    def lease(self, engine: Engine, *, on_exclusive: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def try_lock(mode: str) -> bool:
                suffix = {"alone": "", "together": "_shared"}[mode]
                call = sa.text(f"SELECT pg_try_advisory_lock{suffix}(:key)")
                return bool(connection.execute(call, {"key": _LEASE_KEY}).scalar_one())

            acquired = acquire_lease(try_lock, on_exclusive)
            if acquired == "both":  # both locks count separately; releasing the exclusive one lets others share
                self._release(connection)
            if not acquired:
                raise LeaseHeldError(
                    "another process is working on this database's store; try again when it has finished"
                )
            try:
                yield
            finally:
                self._release(connection, "" if on_exclusive is None else "_shared")

    @staticmethod
    def _release(connection: Connection, suffix: str = "") -> None:
        try:
            connection.execute(sa.text(f"SELECT pg_advisory_unlock{suffix}(:key)"), {"key": _LEASE_KEY})
        except DatabaseUnavailableError as error:  # the lock ended with its session: there is nothing to release
            log.warning("the lease ended before the work was finished: %s", error)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect."""
        return engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ")

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        value: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        return value.astimezone(UTC)
