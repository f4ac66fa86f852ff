"""A run's own partition on PostgreSQL: filled without a key and unseen, attached when whole, dropped in one step.

In: a partitioned table (`PARTITION BY LIST (run_id)`) and a run. Out: a table beside it, then a partition of it.
No step locks readers out: attaching takes SHARE UPDATE EXCLUSIVE on the table they read, and
detaching waits for them instead of making them wait (DETACH ... CONCURRENTLY, PostgreSQL 14).
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from recsys.db.errors import first_line
from recsys.errors import RecsysError, TemporaryError

_RUN_ID = re.compile(r"\d{8}T\d{9}")
_STATE = """SELECT i.inhdetachpending FROM pg_catalog.pg_inherits AS i
  WHERE i.inhrelid = to_regclass(:part) AND i.inhparent = to_regclass(:whole)"""
_NAMES = """SELECT c.relname FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_class AS t ON t.relnamespace = c.relnamespace AND t.oid = to_regclass(:whole)
  WHERE c.relkind = 'r' AND starts_with(c.relname, :start) ORDER BY c.relname"""
_PENDING = """SELECT c.relname FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  WHERE i.inhparent = to_regclass(:whole) AND i.inhdetachpending"""


def supports_partitions(table: sa.Table) -> bool:
    """Whether the table has one partition a run."""
    return table.dialect_options["postgresql"]["partition_by"] is not None


def partition_table(table: sa.Table, run_id: str) -> sa.Table:
    """The partition of a run."""
    return table.to_metadata(sa.MetaData(), name=_name(table, run_id))


def _name(table: sa.Table, run_id: str) -> str:
    return f"{table.name}_{run_id}"


def create_partition(connection: Connection, table: sa.Table, run_id: str) -> None:
    """Make the table that a run's rows are collected in, unless it is there; it has no key and nobody reads it."""
    # The check is what attaching it would otherwise read all rows for.
    connection.exec_driver_sql(
        f'CREATE TABLE IF NOT EXISTS "{_name(table, run_id)}" (LIKE "{table.name}" INCLUDING DEFAULTS, '
        f'CONSTRAINT "of_one_run" CHECK (run_id = {_literal(run_id)}))'
    )


def attach_partition(connection: Connection, table: sa.Table, run_id: str) -> None:
    """Give the collected rows their key and make them rows of the partitioned table.

    Raises:
        RecsysError: two rows have the same key.
    """
    name = _name(table, run_id)
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    try:
        connection.exec_driver_sql(f'ALTER TABLE "{name}" ADD PRIMARY KEY ({key})')
    except IntegrityError as error:
        raise RecsysError(
            f"run {run_id} holds two rows of one key ({first_line(error.orig or error)}); run it anew with --no-resume"
        ) from error
    connection.exec_driver_sql(
        f'ALTER TABLE "{table.name}" ATTACH PARTITION "{name}" FOR VALUES IN ({_literal(run_id)})'
    )
    connection.exec_driver_sql(f'ALTER TABLE "{name}" DROP CONSTRAINT "of_one_run"')


def partitioned_runs(connection: Connection, table: sa.Table) -> list[str]:
    """The runs that have a partition, attached or not."""
    start = _name(table, "")
    found = connection.execute(sa.text(_NAMES), {"whole": f'"{table.name}"', "start": start}).scalars()
    ids = (name.removeprefix(start) for name in found)
    return [run_id for run_id in ids if _RUN_ID.fullmatch(run_id)]  # other names are no tables of ours


def drop_partition(engine: Engine, table: sa.Table, run_id: str) -> None:
    """Drop a run's partition. Takes as long as the oldest transaction that reads the table; no reader waits for it.

    Raises:
        TemporaryError: a transaction reads the table for longer than a lock is waited for; the partition is no longer
            seen by new ones, and the next call goes on.
    """
    name = _name(table, run_id)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            # One partition at a time can be half detached; a killed call may have left one.
            for pending in connection.execute(sa.text(_PENDING), {"whole": f'"{table.name}"'}).scalars().all():
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DETACH PARTITION "{pending}" FINALIZE')
            place = {"part": f'"{name}"', "whole": f'"{table.name}"'}
            if connection.execute(sa.text(_STATE), place).first() is not None:
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DETACH PARTITION "{name}" CONCURRENTLY')
            connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{name}"')
        except TemporaryError as error:
            raise TemporaryError(
                f"the rows of run {run_id} cannot go while a long transaction reads: {error}"
            ) from error


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
