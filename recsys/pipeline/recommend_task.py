"""The lists of one shard of users, made and written: the work of `recommend`, described so that it runs anywhere.

In: settings and the run's id, no rows. Out: rows and a ledger line in the store; a few numbers for whoever asked.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recsys.config import Settings
from recsys.db.retry import retry_transaction
from recsys.errors import TemporaryError
from recsys.execution import signals as stop
from recsys.execution.progress import peak_mb
from recsys.execution.shards import Shard
from recsys.pipeline import recommend_incremental as basis
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.recommend_incremental import RunBasis
from recsys.types import BoolArray, IntArray

if TYPE_CHECKING:
    from recsys.recommend.recommender import Recommender
    from recsys.store.background_writer import BackgroundWriter
    from recsys.store.carried_lists import CarriedOverLists
    from recsys.store.run_writer import RunWriter


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard.

    Attributes:
        users: of the shard.
        made: lists made for them.
        kept: lists taken over.
        seconds: to make the lists, and to write them (or to wait for the writer of the one before).
        drops: what the rules did, as `Drops.document`.
        peak_mb: highest memory of the process so far.
        warnings: what the rooms warned about where that could not be told otherwise.
    """

    users: int
    made: int
    kept: int
    seconds: tuple[float, float]
    drops: dict[str, Any]
    peak_mb: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """What a worker has to know.

    Attributes:
        settings: of the project; the folder must be the same everywhere.
        run_id: the run to write.
        writer: under whose name.
        fingerprint: of the data it is made from.
        model_version: of the models.
        night: what the lists are made from.
    """

    settings: Settings
    run_id: str
    writer: str
    fingerprint: str
    model_version: str
    night: RunBasis


@dataclass
class _WorkerState:
    """What is open in a process while it makes lists."""

    bench: Project
    recommender: Recommender
    run: RunWriter
    users: IntArray
    changed: BoolArray
    warned: list[str] = field(default_factory=list)


class RecommendTask:
    """Makes lists; see `execution.shards.ShardTask`. Sent elsewhere, it takes nothing along but its `TaskSpec`."""

    def __init__(self, work: TaskSpec, bench: Project | None = None, writer: BackgroundWriter | None = None) -> None:
        """Note the work; with a bench, what is loaded there is used.

        Args:
            work: what to do.
            bench: of this process.
            writer: writes a shard while the next one is made; without it, a shard is written before `run` returns.
        """
        self.work = work
        self._bench, self._writer = bench, writer
        self._open: _WorkerState | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"work": self.work, "_bench": None, "_writer": None, "_open": None}

    def setup(self) -> None:
        """Open the store, load data, models and vectors, assemble the recommender.

        Raises:
            TemporaryError: data or models are not those the run was begun with.
        """
        from recsys.store.run_parts import attach_worker

        warned: list[str] = []
        bench = self._bench
        if bench is None:
            bench = Project(self.work.settings, writes=False)
            logger = logging.getLogger("recsys")
            logger.handlers, logger.propagate = [_Collected(warned)], False  # told once, by who waits for the shards
        run = attach_worker(bench.store, self.work.run_id, writer=self.work.writer)
        held = (bench.dataset.fingerprint, bench.model_version)
        if held != (self.work.fingerprint, self.work.model_version):
            raise TemporaryError(f"data or models have changed since run {run.run_id} was begun; start it again")
        table = update_embeddings(bench).table if bench.writes else bench.current_embeddings()
        with bench.progress.stage("prepare sources"):
            made = basis.build_recommender(bench, table, self.work.night)
            users, changed = bench.dataset.users_to_score(), basis.changed_users(bench, self.work.night)
        self._open = _WorkerState(bench, made, run, users, changed, warned)

    def run(self, shard: Shard) -> ShardResult:
        """Make and write the lists of a shard; one that is in the ledger already is left as it is."""
        opened = self._open
        assert opened is not None, "setup comes first"
        settings, made = opened.bench.settings.recommend, opened.recommender
        made.rule_stats = type(made.rule_stats)(made.rules)
        rows = opened.users[shard.index * settings.shard_users : (shard.index + 1) * settings.shard_users]
        started = time.perf_counter()
        anew, kept = self._partition_changed(opened, rows)
        frame = made.recommend_shard(anew, settings.k, first=shard.index == 0)
        scored = time.perf_counter()
        if self._writer is not None:
            self._writer.write(shard.index, frame, n_users=len(rows), kept=kept)
        else:
            with stop.defer_signals():
                retry_transaction(lambda: opened.run.write_shard(shard.index, frame, n_users=len(rows), kept=kept))
        warned, opened.warned[:] = tuple(dict.fromkeys(opened.warned)), []
        seconds = (scored - started, time.perf_counter() - scored)
        counts = (len(rows), len(anew), 0 if kept is None else len(kept.users))
        return ShardResult(*counts, seconds, made.rule_stats.to_dict(), peak_mb(), warned)

    def _partition_changed(self, opened: _WorkerState, rows: IntArray) -> tuple[IntArray, CarriedOverLists | None]:
        """The users whose lists are made, and the lists that are taken over."""
        import numpy as np

        from recsys.store import recommendations as lists
        from recsys.store.carried_lists import CarriedOverLists

        previous = self.work.night.previous
        if previous is None or not len(rows):
            return rows, None
        ids = np.array(opened.bench.dataset.users.ids(rows), object)
        placement = opened.bench.settings.recommend.placement
        with opened.bench.store.reader() as connection:
            listed = lists.listed_users(connection, previous, ids[0], ids[-1], placement=placement)
        stay = ~opened.changed[rows] & np.array([one in listed for one in ids.tolist()], np.bool_)
        kept = ids[stay].tolist()
        if not kept:
            return rows, None
        others = sorted(one for one in listed - set(kept) if kept[0] < one < kept[-1])
        return rows[~stay], CarriedOverLists(previous, kept, others)


class _Collected(logging.Handler):
    """Warnings as texts."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(record.getMessage())
