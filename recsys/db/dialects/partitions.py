"""PostgreSQL partitions, one per run: filled while detached, attached when complete, dropped at once.

In: a partitioned table (`PARTITION BY LIST (run_id)`) and a run. Out: a separate table without a key, later a
partition. No step blocks readers: attaching takes SHARE UPDATE EXCLUSIVE on the partitioned table, and detaching waits
for readers instead of making them wait (DETACH ... CONCURRENTLY, PostgreSQL 14).
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from recsys.db.errors import first_line
from recsys.errors import RecsysError, TemporaryError

_RUN_ID_PATTERN = re.compile(r"\d{8}T\d{9}")
_ATTACHED_QUERY = """SELECT i.inhdetachpending FROM pg_catalog.pg_inherits AS i
  WHERE i.inhrelid = to_regclass(:part) AND i.inhparent = to_regclass(:whole)"""
_NAMES_QUERY = """SELECT c.relname FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_class AS t ON t.relnamespace = c.relnamespace AND t.oid = to_regclass(:whole)
  WHERE c.relkind = 'r' AND starts_with(c.relname, :start) ORDER BY c.relname"""
_PENDING_QUERY = """SELECT c.relname FROM pg_catalog.pg_inherits AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  WHERE i.inhparent = to_regclass(:whole) AND i.inhdetachpending"""


def supports_partitions(table: sa.Table) -> bool:
    """Return whether the table has one partition per run."""
    return table.dialect_options["postgresql"]["partition_by"] is not None


def partition_table(table: sa.Table, run_id: str) -> sa.Table:
    """Return the partition of a run."""
    return table.to_metadata(sa.MetaData(), name=_partition_name(table, run_id))


def _partition_name(table: sa.Table, run_id: str) -> str:
    return f"{table.name}_{run_id}"


def create_partition(connection: Connection, table: sa.Table, run_id: str) -> None:
    """Create the table that collects a run's rows if it is missing; it has no key and no readers yet."""
    # With this check, attaching does not need to scan all rows.
    connection.exec_driver_sql(
        f'CREATE TABLE IF NOT EXISTS "{_partition_name(table, run_id)}" (LIKE "{table.name}" INCLUDING DEFAULTS, '
        f'CONSTRAINT "of_one_run" CHECK (run_id = {_quote_literal(run_id)}))'
    )


def attach_partition(connection: Connection, table: sa.Table, run_id: str) -> None:
    """Add the key to the collected rows and attach them to the partitioned table.

    Raises:
        RecsysError: two rows have the same key.
    """
    name = _partition_name(table, run_id)
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    try:
        connection.exec_driver_sql(f'ALTER TABLE "{name}" ADD PRIMARY KEY ({key})')
    except IntegrityError as error:
        raise RecsysError(
            f"run {run_id} has two rows with the same key ({first_line(error.orig or error)}); "
            "run the command again with --no-resume"
        ) from error
    connection.exec_driver_sql(
        f'ALTER TABLE "{table.name}" ATTACH PARTITION "{name}" FOR VALUES IN ({_quote_literal(run_id)})'
    )
    connection.exec_driver_sql(f'ALTER TABLE "{name}" DROP CONSTRAINT "of_one_run"')


def partition_run_ids(connection: Connection, table: sa.Table) -> list[str]:
    """Return the runs that have a partition, attached or not."""
    prefix = _partition_name(table, "")
    names = connection.execute(sa.text(_NAMES_QUERY), {"whole": f'"{table.name}"', "start": prefix}).scalars()
    ids = (name.removeprefix(prefix) for name in names)
    return [run_id for run_id in ids if _RUN_ID_PATTERN.fullmatch(run_id)]  # other names are not partitions of recsys


def drop_partition(engine: Engine, table: sa.Table, run_id: str) -> None:
    """Drop a run's partition. Waits for the oldest transaction that reads the table; readers do not wait.

    Raises:
        TemporaryError: a transaction reads the table longer than the lock timeout; new transactions no longer see
            the partition, and the next call continues.
    """
    name = _partition_name(table, run_id)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            # One partition at a time can be partly detached; a killed call may have left one.
            for pending in connection.execute(sa.text(_PENDING_QUERY), {"whole": f'"{table.name}"'}).scalars().all():
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DETACH PARTITION "{pending}" FINALIZE')
            names = {"part": f'"{name}"', "whole": f'"{table.name}"'}
            if connection.execute(sa.text(_ATTACHED_QUERY), names).first() is not None:
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DETACH PARTITION "{name}" CONCURRENTLY')
            connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{name}"')
        except TemporaryError as error:
            raise TemporaryError(
                f"the rows of run {run_id} cannot be deleted while a long transaction reads them: {error}"
            ) from error


def _quote_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
