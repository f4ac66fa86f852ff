"""Publish and roll back runs: consumers read the run that a row of `publications` points to.

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
from recsys.store import publish_guards, tables

log = logging.getLogger(__name__)

_RUNS = tables.runs
_PUBLICATIONS = tables.publications


def get_run(connection: Connection, run_id: str) -> RowMapping:
    """Return the row of a run.

    Raises:
        NotFoundError: there is no such run.
    """
    row = connection.execute(sa.select(_RUNS).where(_RUNS.c.run_id == run_id)).mappings().first()
    if row is None:
        run_ids = connection.execute(sa.select(_RUNS.c.run_id)).scalars().all()
        raise NotFoundError(f"there is no run '{run_id}'{suggestion(run_id, run_ids)}; 'recsys runs list' lists them")
    return row


def current_run(connection: Connection, placement: str) -> RowMapping | None:
    """Return the row of the run published at a placement; None if nothing is published."""
    run_id = connection.execute(
        sa.select(_PUBLICATIONS.c.run_id).where(_PUBLICATIONS.c.placement == placement)
    ).scalar()
    return None if run_id is None else get_run(connection, run_id)


def latest_ready_run(connection: Connection, placement: str) -> str:
    """Return the newest finished run that was never published.

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
    available_only: bool = True,
) -> None:
    """Publish a run at its placement if the guards pass; the current run becomes the rollback target.

    Raises:
        NotFoundError: there is no such run, it was never finished, or its rows are pruned.
        PublishGuardError: a guard fails.
    """
    run = get_run(connection, run_id)
    if run["state"] in ("building", "failed") or run["pruned_at"] is not None:
        state = "pruned" if run["pruned_at"] is not None else run["state"]
        raise NotFoundError(f"run {run_id} cannot be published: it is {state}; see 'recsys runs list'")
    placement = run["placement"]
    current = _lock_publication(connection, placement)
    current_run_id = None if current is None else str(current["run_id"])
    failpoint("store.guards.before")
    if run["kind"] == "recommend" and guards is not None:
        expected = expected_users if expected_users is not None else int((run["counts"] or {}).get("users", 0))
        failures = publish_guards.failed_guards(
            connection,
            run_id,
            settings=guards,
            expected_users=expected,
            last_run=current_run_id,
            available_only=available_only,
        )
        if failures and force:
            log.warning("run %s is published although guards failed: %s", run_id, "; ".join(failures))
        elif failures:
            raise PublishGuardError(
                f"run {run_id} is not published: {'; '.join(failures)}. The published run is unchanged; "
                f"'recsys publish {run_id} --force' publishes it despite this"
            )
    failpoint("store.guards.after")
    if current_run_id == run_id:
        return
    failpoint("store.flip.before")
    if current_run_id is None:
        if not _insert_publication(connection, placement, run_id, now=now):
            # another publisher was first: check against its run and update its row
            publish(
                connection,
                run_id,
                guards=guards,
                expected_users=expected_users,
                force=force,
                now=now,
                available_only=available_only,
            )
            return
    else:
        _update_publication(connection, placement, run_id=run_id, previous_run_id=current_run_id, now=now)
        _update_run(connection, current_run_id, state="superseded")
    failpoint("store.flip.after")
    _update_run(connection, run_id, state="published", published_at=now)


def rollback(connection: Connection, placement: str, *, now: datetime) -> str:
    """Publish the previous run of a placement again; return its id.

    Raises:
        NotFoundError: nothing is published there, or there is no earlier run with its rows.
    """
    current = _lock_publication(connection, placement)
    if current is None:
        raise NotFoundError(f"nothing is published at '{placement}'; there is nothing to roll back")
    previous = current["previous_run_id"]
    if previous is None or get_run(connection, previous)["pruned_at"] is not None:
        raise NotFoundError(
            f"run {current['run_id']} at '{placement}' has no earlier run to roll back to; publish another run instead"
        )
    earlier = sa.select(sa.func.max(_RUNS.c.run_id)).where(
        _RUNS.c.placement == placement,
        _RUNS.c.state == "superseded",
        _RUNS.c.pruned_at.is_(None),
        _RUNS.c.run_id < previous,
    )
    _update_publication(
        connection, placement, run_id=previous, previous_run_id=connection.execute(earlier).scalar_one(), now=now
    )
    _update_run(connection, current["run_id"], state="rolled_back")
    _update_run(connection, previous, state="published", published_at=now)
    return str(previous)


def _lock_publication(connection: Connection, placement: str) -> RowMapping | None:
    """Return the publication of a placement, locked until the transaction ends: publishers run one by one."""
    query = sa.select(_PUBLICATIONS).where(_PUBLICATIONS.c.placement == placement).with_for_update()
    return connection.execute(query).mappings().first()


def _insert_publication(connection: Connection, placement: str, run_id: str, *, now: datetime) -> bool:
    """Insert the publication of a placement; return False if another publisher has inserted it."""
    statement = sa.insert(_PUBLICATIONS).values(placement=placement, run_id=run_id, generation=1, updated_at=now)
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except IntegrityError:
        return False
    return True


def _update_publication(
    connection: Connection, placement: str, *, run_id: str, previous_run_id: str | None, now: datetime
) -> None:
    connection.execute(
        sa.update(_PUBLICATIONS)
        .where(_PUBLICATIONS.c.placement == placement)
        .values(
            run_id=run_id, previous_run_id=previous_run_id, generation=_PUBLICATIONS.c.generation + 1, updated_at=now
        )
    )


def _update_run(connection: Connection, run_id: str, **values: object) -> None:
    connection.execute(sa.update(_RUNS).where(_RUNS.c.run_id == run_id).values(**values))
