"""Retention: the rows of old runs go, their line in the ledger of runs stays.

In: a connection in a transaction, how many runs to keep. Out: fewer rows.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.execution.failpoints import failpoint
from recsys.store import tables
from recsys.store.run import WRITTEN

_TABLES = (*dict.fromkeys(table for held in WRITTEN.values() for table in held), tables.run_shards)


def rows_of(connection: Connection, run_id: str) -> None:
    """Delete all rows and ledger lines of a run."""
    for table in _TABLES:
        connection.execute(sa.delete(table).where(table.c.run_id == run_id))


def old_runs(connection: Connection, keep: int, *, now: datetime) -> int:
    """Delete the rows of all but the newest `keep` published runs of each placement.

    Runs at work, the published run, the one to go back to and finished runs newer than the published one stay.

    Returns:
        How many runs lost their rows.
    """
    runs, publications = tables.runs, tables.publications
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
        failpoint("store.prune.rows.before")
        rows_of(connection, run_id)
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(pruned_at=now))
    return len(gone)
