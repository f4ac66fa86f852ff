"""Retention: delete the rows of old runs and keep their rows in the table of runs.

In: a connection in a transaction, the number of runs to keep. Out: runs marked as pruned; then, in separate
transactions and in chunks, their rows are deleted. The mark comes first, so a killed process leaves no readable run
with missing rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from recsys.db.dialects import Dialect
from recsys.errors import DatabaseUnavailableError, TemporaryError
from recsys.execution.failpoints import failpoint
from recsys.store import tables
from recsys.store.run_ledger import TABLES_BY_KIND

log = logging.getLogger(__name__)

_RUN_TABLES = tuple(dict.fromkeys(table for kind_tables in TABLES_BY_KIND.values() for table in kind_tables))


def mark_failed(connection: Connection, run_id: str, *, reason: str) -> None:
    """Mark an unfinished run as failed, with `reason`; delete its rows with `delete_run_rows`."""
    runs, shards = tables.runs, tables.run_shards
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(state="failed", reason=reason))
    connection.execute(sa.delete(shards).where(shards.c.run_id == run_id))


def mark_expired_runs(connection: Connection, keep: int, *, now: datetime) -> list[str]:
    """Mark all but the newest `keep` published runs of each placement as pruned.

    Pruned runs cannot be published again. Unfinished runs, the published run, its rollback target and finished runs
    newer than the published one stay.

    Returns:
        The runs whose rows may be deleted.
    """
    runs, publications, shards = tables.runs, tables.publications, tables.run_shards
    referenced = {
        run
        for row in connection.execute(sa.select(publications.c.run_id, publications.c.previous_run_id))
        for run in row
    }
    rows = connection.execute(sa.select(publications.c.placement, publications.c.run_id)).all()
    current_runs: dict[str, str] = {placement: run_id for placement, run_id in rows}
    query = sa.select(runs.c.run_id, runs.c.placement, runs.c.state).where(runs.c.pruned_at.is_(None))
    published_counts: dict[str, int] = {}
    expired = []
    for run_id, placement, state in connection.execute(query.order_by(runs.c.run_id.desc())).all():
        if state == "building" or (state == "ready" and run_id > current_runs.get(placement, "")):
            continue
        published_counts[placement] = published_counts.get(placement, 0) + (state in ("published", "superseded"))
        is_expired = published_counts[placement] > keep or state not in ("published", "superseded")
        if is_expired and run_id not in referenced:
            expired.append(run_id)
    for run_id in expired:
        connection.execute(sa.delete(shards).where(shards.c.run_id == run_id))
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(pruned_at=now))
    return expired


def delete_run_rows(engine: Engine, dialect: Dialect, run_ids: Iterable[str]) -> None:
    """Delete all rows of runs that are marked as pruned or failed.

    Rows that a long transaction still reads stay for the next `delete_orphaned_rows`, with a warning.
    """
    for run_id in run_ids:
        for table in _RUN_TABLES:
            failpoint("store.prune.rows.before")
            try:
                dialect.delete_run_rows(engine, table, run_id)
            except DatabaseUnavailableError:
                raise
            except TemporaryError as error:
                log.warning("rows of run %s in %s stay until the next prune: %s", run_id, table.name, error)


def delete_orphaned_rows(engine: Engine, dialect: Dialect) -> None:
    """Delete rows left by a killed process: all rows of runs marked as pruned or failed."""
    runs = tables.runs
    is_deletable = sa.or_(runs.c.pruned_at.is_not(None), runs.c.state == "failed")
    with dialect.snapshot(engine) as connection:
        deletable = set(connection.execute(sa.select(runs.c.run_id).where(is_deletable)).scalars().all())
        stored = {run_id for table in _RUN_TABLES for run_id in dialect.stored_run_ids(connection, table)}
    delete_run_rows(engine, dialect, sorted(deletable & stored))
