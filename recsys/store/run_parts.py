"""One run written by several processes that start on their own, on one machine or on many: the parts of a run.

In: the same manifest in every part. Out: the same run: the first part begins it, the others join it, the one that
completes the ledger finishes it; each of these happens once, whoever comes when.

A part shares the store's lease with the other parts. The first to hold it, while nobody else does, takes the writer's
name from every unfinished run: whatever wrote them is gone. So an unfinished run with a name is at work, and one
without may be gone on with or given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import RecsysError, TemporaryError
from recsys.store import publication as pointer
from recsys.store import tables
from recsys.store.run_ledger import Manifest, written_shards
from recsys.store.run_writer import RunWriter

if TYPE_CHECKING:
    from recsys.store.store import Store

_TRIES = 5
"""How often a part tries to begin a run that another one begins at the same moment."""
_OVER = ("ready", "published")
PARTS = "parts"
"""Where the metrics of an unfinished run keep what each part has noted."""


@dataclass(frozen=True)
class JoinedRun:
    """What a part finds.

    Attributes:
        run: to write; its `done` is the ledger of all parts.
        state: "building", or "ready" or "published" when all parts are done.
    """

    run: RunWriter
    state: str


def join_run(store: Store, kind: str, manifest: Manifest, *, placement: str, number: int) -> JoinedRun:
    """Go on with the run of this manifest, or begin it; the caller shares the store's lease.

    A finished run of the same models, data and settings is not begun again, unless it was rolled back: a part that is
    started once more finds its work done.

    Args:
        store: the store, opened with `shared`.
        kind: of the run.
        manifest: what decides its rows.
        placement: where consumers will read it.
        number: how many parts there are.

    Raises:
        LeaseHeldError: another run is at work here.
    """
    for _ in range(_TRIES):
        over = _finished(store, kind, manifest, placement)
        if over is not None:
            return over
        try:
            run = store.begin_run(kind, manifest, placement=placement, part=f"one of {number} parts")
        except IntegrityError:  # another part has begun it since we looked
            continue
        return JoinedRun(run, "building")
    raise TemporaryError(f"the run for '{placement}' cannot be begun: other processes begin it at the same time")


def attach_worker(store: Store, run_id: str, *, writer: str) -> RunWriter:
    """Help to write a run that another process has begun and looks after; no lease is taken.

    Args:
        store: where the run is.
        run_id: the run.
        writer: `RunWriter.writer` of that process; once another has taken the run over, nothing is written any more.

    Raises:
        NotFoundError: there is no such run.
    """
    with store.reader() as connection:
        found, done = pointer.run_row(connection, run_id), written_shards(connection, run_id)
    return RunWriter(
        store.engine,
        store.dialect,
        run_id,
        kind=found["kind"],
        placement=found["placement"],
        done=done,
        writer=writer,
    )


def _finished(store: Store, kind: str, manifest: Manifest, placement: str) -> JoinedRun | None:
    runs = tables.runs
    here = (runs.c.placement == placement, runs.c.kind == kind)
    with store.reader() as connection:
        newest = sa.select(runs).where(*here).order_by(runs.c.run_id.desc()).limit(1)
        row = connection.execute(newest).mappings().first()
    if row is None or row["state"] not in _OVER:
        return None
    held = (row["model_version"], row["data_fingerprint"], row["config_hash"], (row["extra"] or {}).get("k"))
    asked = (manifest.model_version, manifest.data_fingerprint, manifest.config_hash, manifest.extra.get("k"))
    return JoinedRun(attach_worker(store, row["run_id"], writer=row["host"]), row["state"]) if held == asked else None


def record_part(store: Store, run: RunWriter, part: int, told: dict[str, Any]) -> dict[str, Any]:
    """Note what a part has done beside the others' notes; return all of them by part.

    Args:
        store: the store.
        run: from `join_run`.
        part: number of the part.
        told: its figures; `shards` says how many it made.
    """
    runs = tables.runs
    mine = runs.c.run_id == run.run_id
    with store.engine.begin() as connection:
        row = connection.execute(sa.select(runs).where(mine).with_for_update()).mappings().one()
        notes: dict[str, Any] = dict((row["metrics"] or {}).get(PARTS, {}))
        if row["state"] == "building":
            if told["shards"] or str(part) not in notes:  # started again with nothing to do, it says nothing new
                notes[str(part)] = told
            connection.execute(sa.update(runs).where(mine).values(metrics={PARTS: notes}))
    return notes


def finish_if_complete(
    store: Store, run: RunWriter, of: int, *, counts: dict[str, Any], metrics: dict[str, Any]
) -> bool:
    """Finish a run if the ledger has all of its `of` shards.

    Returns:
        Whether this call finished it; of all parts, exactly one does.

    Raises:
        RecsysError: the run was taken over by another process.
    """
    if missing_shards(store, run, of):
        return False
    try:
        run.finish(counts, metrics)
    except RecsysError:
        if store.run(run.run_id)["state"] in _OVER:  # another part was a moment quicker
            return False
        raise
    return True


def missing_shards(store: Store, run: RunWriter, of: int) -> int:
    """How many shards the ledger does not have yet."""
    return of - int(store.run(run.run_id)["shards"])
