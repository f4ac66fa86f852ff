"""The pointer that consumers read through: moved forward to a finished run, and back.

In: a connection in a transaction. Out: one changed row of `publications`, and the new states of two runs.
"""

from __future__ import annotations

import logging
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from recsys.config import PublishSettings
from recsys.errors import NotFoundError, PublishGuardError, suggestion
from recsys.execution.failpoints import failpoint
from recsys.store import publish_guards as guarding
from recsys.store import tables

log = logging.getLogger(__name__)

_RUNS = tables.runs
_POINTERS = tables.publications


def run_row(connection: Connection, run_id: str) -> RowMapping:
    """The row of a run.

    Raises:
        NotFoundError: there is no such run.
    """
    found = connection.execute(sa.select(_RUNS).where(_RUNS.c.run_id == run_id)).mappings().first()
    if found is None:
        known = connection.execute(sa.select(_RUNS.c.run_id)).scalars().all()
        raise NotFoundError(f"there is no run '{run_id}'{suggestion(run_id, known)}; 'recsys runs list' lists them")
    return found


def published_run(connection: Connection, placement: str) -> RowMapping | None:
    """The row of the run that consumers read at a placement; None where nothing is published."""
    pointed = connection.execute(sa.select(_POINTERS.c.run_id).where(_POINTERS.c.placement == placement)).scalar()
    return None if pointed is None else run_row(connection, pointed)


def latest_ready_run(connection: Connection, placement: str) -> str:
    """The newest finished run that was never published.

    Raises:
        NotFoundError: there is none.
    """
    ready = sa.select(sa.func.max(_RUNS.c.run_id)).where(_RUNS.c.placement == placement, _RUNS.c.state == "ready")
    run_id: str | None = connection.execute(ready).scalar_one()
    if run_id is None:
        raise NotFoundError(f"no finished run waits to be published at '{placement}'; run 'recsys recommend'")
    return run_id


def publish(
    connection: Connection,
    run_id: str,
    *,
    guards: PublishSettings | None,
    expected_users: int | None,
    force: bool,
    now: datetime,
) -> None:
    """Point a run's placement at it, if the guards let it; the run that was read becomes the one to go back to.

    Raises:
        NotFoundError: no such run, or it was never finished, or its rows are pruned.
        PublishGuardError: a guard refuses.
    """
    run = run_row(connection, run_id)
    if run["state"] in ("building", "failed") or run["pruned_at"] is not None:
        state = "pruned" if run["pruned_at"] is not None else run["state"]
        raise NotFoundError(f"run {run_id} cannot be published: it is {state}; see 'recsys runs list'")
    placement = run["placement"]
    current = _current(connection, placement)
    read_now = None if current is None else str(current["run_id"])
    failpoint("store.guards.before")
    if run["kind"] == "recommend" and guards is not None:
        expected = expected_users if expected_users is not None else int((run["counts"] or {}).get("users", 0))
        said = guarding.failed_guards(connection, run_id, settings=guards, expected_users=expected, last_run=read_now)
        if said and force:
            log.warning("run %s is published although: %s", run_id, "; ".join(said))
        elif said:
            raise PublishGuardError(
                f"run {run_id} is not published: {'; '.join(said)}. What consumers read is unchanged; "
                f"'recsys publish {run_id} --force' publishes it all the same"
            )
    failpoint("store.guards.after")
    if read_now == run_id:
        return
    failpoint("store.flip.before")
    if read_now is None:
        if not _first(connection, placement, run_id, now=now):  # then there is a pointer to judge by and to move
            publish(connection, run_id, guards=guards, expected_users=expected_users, force=force, now=now)
            return
    else:
        _move(connection, placement, to=run_id, back_to=read_now, now=now)
        _mark(connection, read_now, state="superseded")
    failpoint("store.flip.after")
    _mark(connection, run_id, state="published", published_at=now)


def rollback(connection: Connection, placement: str, *, now: datetime) -> str:
    """Point a placement at the run before; return that run's id.

    Raises:
        NotFoundError: nothing is published there, or there is no earlier run with its rows.
    """
    current = _current(connection, placement)
    if current is None:
        raise NotFoundError(f"nothing is published at '{placement}'; there is nothing to go back from")
    before = current["previous_run_id"]
    if before is None or run_row(connection, before)["pruned_at"] is not None:
        raise NotFoundError(f"run {current['run_id']} at '{placement}' has no earlier run to go back to")
    earlier = sa.select(sa.func.max(_RUNS.c.run_id)).where(
        _RUNS.c.placement == placement,
        _RUNS.c.state == "superseded",
        _RUNS.c.pruned_at.is_(None),
        _RUNS.c.run_id < before,
    )
    _move(connection, placement, to=before, back_to=connection.execute(earlier).scalar_one(), now=now)
    _mark(connection, current["run_id"], state="rolled_back")
    _mark(connection, before, state="published", published_at=now)
    return str(before)


def _current(connection: Connection, placement: str) -> RowMapping | None:
    """The pointer of a placement, locked until the transaction ends: two publishers move it one after the other."""
    query = sa.select(_POINTERS).where(_POINTERS.c.placement == placement).with_for_update()
    return connection.execute(query).mappings().first()


def _first(connection: Connection, placement: str, run_id: str, *, now: datetime) -> bool:
    """Make the pointer of a placement; False when another publisher has made it a moment earlier."""
    made = sa.insert(_POINTERS).values(placement=placement, run_id=run_id, generation=1, updated_at=now)
    try:
        with connection.begin_nested():
            connection.execute(made)
    except IntegrityError:
        return False
    return True


def _move(connection: Connection, placement: str, *, to: str, back_to: str | None, now: datetime) -> None:
    connection.execute(
        sa.update(_POINTERS)
        .where(_POINTERS.c.placement == placement)
        .values(run_id=to, previous_run_id=back_to, generation=_POINTERS.c.generation + 1, updated_at=now)
    )


def _mark(connection: Connection, run_id: str, **values: object) -> None:
    connection.execute(sa.update(_RUNS).where(_RUNS.c.run_id == run_id).values(**values))
