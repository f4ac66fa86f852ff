"""Write one run from several independent processes, on one machine or on many: the parts of a run.

In: the same manifest in every part. Out: one run: the first part begins it, the other parts join it, and the part that
completes the ledger finishes it; each of these happens exactly once, in whatever order the parts arrive.

The parts share the store's lease. The first part that holds it exclusively clears the writer of every unfinished run,
because the process that wrote it has ended. So an unfinished run with a writer is being written, and one without may be
resumed or marked as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import RecsysError, TemporaryError
from recsys.store import publication, tables
from recsys.store.run_ledger import RunManifest, written_shards
from recsys.store.run_writer import RunWriter

if TYPE_CHECKING:
    from recsys.store.store import Store

_MAX_ATTEMPTS = 5
"""Attempts of a part to begin a run that another part may begin at the same moment."""
_FINISHED_STATES = ("ready", "published")
PARTS_KEY = "parts"
"""Key in the metrics of an unfinished run that holds the statistics of each part."""


@dataclass(frozen=True)
class JoinedRun:
    """Run that a part has joined.

    Attributes:
        run: its writer, whose `finished_shards` are those of all parts.
        state: "building", or "ready" or "published" if all parts are finished.
    """

    run: RunWriter
    state: str


def join_run(store: Store, kind: str, manifest: RunManifest, *, placement: str, n_parts: int) -> JoinedRun:
    """Resume the run of this manifest, or begin it; the caller shares the store's lease.

    A finished run of the same models, data and settings is not begun again, unless it was rolled back: a restarted
    part finds nothing left to do.

    Args:
        store: the store, opened with `shared`.
        kind: kind of run.
        manifest: inputs that determine the run's rows.
        placement: placement under which consumers will read it.
        n_parts: number of parts.

    Raises:
        LeaseHeldError: another run of this placement is being written.
    """
    for _ in range(_MAX_ATTEMPTS):
        finished = _find_finished_run(store, kind, manifest, placement)
        if finished is not None:
            return finished
        try:
            run = store.begin_run(kind, manifest, placement=placement, part=f"one of {n_parts} parts")
        except IntegrityError:  # another part has begun it in the meantime
            continue
        return JoinedRun(run, "building")
    raise TemporaryError(
        f"the run for '{placement}' was not begun: other processes began one at the same time; try again"
    )


def attach_worker(store: Store, run_id: str, *, writer: str) -> RunWriter:
    """Return a writer for a run that another process has begun and manages; no lease is acquired.

    Args:
        store: store of the run.
        run_id: the run.
        writer: `RunWriter.writer` of that process; nothing more is written once another process has taken the run
            over.

    Raises:
        NotFoundError: there is no such run.
    """
    with store.reader() as connection:
        row, done = publication.get_run(connection, run_id), written_shards(connection, run_id)
    return RunWriter(
        store.engine,
        store.dialect,
        run_id,
        kind=row["kind"],
        placement=row["placement"],
        finished_shards=done,
        writer=writer,
    )


def _find_finished_run(store: Store, kind: str, manifest: RunManifest, placement: str) -> JoinedRun | None:
    runs = tables.runs
    same_placement = (runs.c.placement == placement, runs.c.kind == kind)
    with store.reader() as connection:
        newest = sa.select(runs).where(*same_placement).order_by(runs.c.run_id.desc()).limit(1)
        row = connection.execute(newest).mappings().first()
    if row is None or row["state"] not in _FINISHED_STATES:
        return None
    stored_inputs = (row["model_version"], row["data_fingerprint"], row["config_hash"], (row["extra"] or {}).get("k"))
    requested_inputs = (
        manifest.model_version,
        manifest.data_fingerprint,
        manifest.config_hash,
        manifest.extra.get("k"),
    )
    return (
        JoinedRun(attach_worker(store, row["run_id"], writer=row["host"]), row["state"])
        if stored_inputs == requested_inputs
        else None
    )


def record_part(store: Store, run: RunWriter, part: int, statistics: dict[str, Any]) -> dict[str, Any]:
    """Add the statistics of a part to those of the other parts; return all of them by part.

    Args:
        store: the store.
        run: from `join_run`.
        part: number of the part.
        statistics: statistics of the part; `shards` is the number of shards it wrote.
    """
    runs = tables.runs
    this_run = runs.c.run_id == run.run_id
    with store.engine.begin() as connection:
        row = connection.execute(sa.select(runs).where(this_run).with_for_update()).mappings().one()
        statistics_by_part: dict[str, Any] = dict((row["metrics"] or {}).get(PARTS_KEY, {}))
        if row["state"] == "building":
            if statistics["shards"] or str(part) not in statistics_by_part:
                # a restarted part without work keeps its statistics
                statistics_by_part[str(part)] = statistics
            connection.execute(sa.update(runs).where(this_run).values(metrics={PARTS_KEY: statistics_by_part}))
    return statistics_by_part


def finish_if_complete(
    store: Store, run: RunWriter, n_shards: int, *, counts: dict[str, Any], metrics: dict[str, Any]
) -> bool:
    """Finish a run if its ledger has all `n_shards` shards.

    Returns:
        Whether this call finished it; exactly one part does.

    Raises:
        RecsysError: another process has taken the run over.
    """
    if missing_shard_count(store, run, n_shards):
        return False
    try:
        run.finish(counts, metrics)
    except RecsysError:
        if store.run(run.run_id)["state"] in _FINISHED_STATES:  # another part finished it first
            return False
        raise
    return True


def missing_shard_count(store: Store, run: RunWriter, n_shards: int) -> int:
    """Return the number of shards that are not in the ledger yet."""
    return n_shards - int(store.run(run.run_id)["shards"])
