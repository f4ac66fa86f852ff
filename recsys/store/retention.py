"""Retention: the rows of old runs go, their line in the ledger of runs stays.

In: a connection in a transaction, how many runs to keep. Out: runs marked as pruned; then, in transactions of their
own and in pieces, their rows. Rows follow the mark, so whoever is killed between the two leaves no run half readable.
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

_TABLES = tuple(dict.fromkeys(table for held in TABLES_BY_KIND.values() for table in held))


def mark_failed(connection: Connection, run_id: str, *, reason: str) -> None:
    """Mark an unfinished run as failed, with `reason`; its rows go with `delete_rows`."""
    runs, shards = tables.runs, tables.run_shards
    connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(state="failed", reason=reason))
    connection.execute(sa.delete(shards).where(shards.c.run_id == run_id))


def mark_expired_runs(connection: Connection, keep: int, *, now: datetime) -> list[str]:
    """Mark all but the newest `keep` published runs of each placement as pruned: nobody can publish them any more.

    Runs at work, the published run, the one to go back to and finished runs newer than the published one stay.

    Returns:
        The runs whose rows may go.
    """
    runs, publications, shards = tables.runs, tables.publications, tables.run_shards
    pointed = {
        run
        for row in connection.execute(sa.select(publications.c.run_id, publications.c.previous_run_id))
        for run in row
    }
    named = connection.execute(sa.select(publications.c.placement, publications.c.run_id)).all()
    current: dict[str, str] = {placement: run_id for placement, run_id in named}
    query = sa.select(runs.c.run_id, runs.c.placement, runs.c.state).where(runs.c.pruned_at.is_(None))
    kept: dict[str, int] = {}
    gone = []
    for run_id, placement, state in connection.execute(query.order_by(runs.c.run_id.desc())).all():
        if state == "building" or (state == "ready" and run_id > current.get(placement, "")):
            continue
        kept[placement] = kept.get(placement, 0) + (state in ("published", "superseded"))
        enough = kept[placement] > keep or state not in ("published", "superseded")
        if enough and run_id not in pointed:
            gone.append(run_id)
    for run_id in gone:
        connection.execute(sa.delete(shards).where(shards.c.run_id == run_id))
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(pruned_at=now))
    return gone


def delete_rows(engine: Engine, dialect: Dialect, run_ids: Iterable[str]) -> None:
    """Take away all rows of runs that were given up or marked.

    Rows that a long transaction still reads stay for the next `delete_orphaned_rows`, with a warning.
    """
    for run_id in run_ids:
        for table in _TABLES:
            failpoint("store.prune.rows.before")
            try:
                dialect.delete_run_rows(engine, table, run_id)
            except DatabaseUnavailableError:
                raise
            except TemporaryError as error:
                log.warning("rows of run %s in %s stay until the next prune: %s", run_id, table.name, error)


def delete_orphaned_rows(engine: Engine, dialect: Dialect) -> None:
    """Take away what a killed process left: all rows of all runs that are marked as pruned or were given up."""
    runs = tables.runs
    over = sa.or_(runs.c.pruned_at.is_not(None), runs.c.state == "failed")
    with dialect.snapshot(engine) as connection:
        dead = set(connection.execute(sa.select(runs.c.run_id).where(over)).scalars().all())
        left = {run_id for table in _TABLES for run_id in dialect.run_ids(connection, table)}
    delete_rows(engine, dialect, sorted(dead & left))
