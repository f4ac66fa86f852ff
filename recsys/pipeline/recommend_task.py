"""Computes and writes the recommendations of one shard of users, in this process or in a worker.

In: settings and the run's id, no rows. Out: rows and a ledger row in the store, a few statistics for the caller.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recsys.config import Settings
from recsys.db.retry import retry_transaction
from recsys.errors import TemporaryError
from recsys.execution.progress import peak_mb
from recsys.execution.shards import Shard
from recsys.execution.signals import defer_signals
from recsys.pipeline import recommend_incremental as incremental
from recsys.pipeline.embed import prepare_embeddings
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
    """Statistics of one computed shard.

    Attributes:
        users: users of the shard.
        lists_computed: recommendation lists computed for them.
        lists_kept: recommendation lists carried over from the previous run.
        score_seconds: to compute the lists.
        write_seconds: to write them, or to wait for the writer of the previous shard.
        rule_stats: what the rules removed, as `RuleStats.to_dict`.
        peak_mb: highest memory of the process so far.
        warnings: warnings logged by a worker, whose own log is not shown.
    """

    users: int
    lists_computed: int
    lists_kept: int
    score_seconds: float
    write_seconds: float
    rule_stats: dict[str, Any]
    peak_mb: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """Everything a worker needs to know.

    Attributes:
        settings: of the project; its folder must be the same on every machine.
        run_id: the run to write.
        writer: `RunWriter.writer` of the process that began the run.
        fingerprint: of the data the run is computed from.
        model_version: of the models.
        basis: mode of the run, full or incremental.
    """

    settings: Settings
    run_id: str
    writer: str
    fingerprint: str
    model_version: str
    basis: RunBasis


@dataclass
class _WorkerState:
    """Everything open in a process while it computes shards."""

    project: Project
    recommender: Recommender
    run: RunWriter
    users: IntArray
    changed: BoolArray
    warnings: list[str] = field(default_factory=list)


class RecommendTask:
    """Computes shards; see `execution.shards.ShardTask`. Only its `TaskSpec` is pickled.

    Args:
        spec: the work.
        project: the open project of this process; a worker opens its own.
        writer: writes a shard while the next one is computed; without it, `run` writes the shard before it returns.
    """

    def __init__(self, spec: TaskSpec, project: Project | None = None, writer: BackgroundWriter | None = None) -> None:
        self.spec = spec
        self._project, self._writer = project, writer
        self._state: _WorkerState | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "_project": None, "_writer": None, "_state": None}

    def setup(self) -> None:
        """Open the store, load data, models and embeddings, build the recommender.

        Raises:
            TemporaryError: data or models have changed since the run was begun.
        """
        from recsys.store.run_parts import attach_worker

        spec, project, warnings = self.spec, self._project, list[str]()
        if project is None:
            project = Project(spec.settings, writes=False)
            logger = logging.getLogger("recsys")
            logger.handlers, logger.propagate = [_WarningCollector(warnings)], False  # the caller logs them, once
        run = attach_worker(project.store, spec.run_id, writer=spec.writer)
        if (project.dataset.fingerprint, project.model_version) != (spec.fingerprint, spec.model_version):
            raise TemporaryError(f"data or models have changed since run {run.run_id} was begun; start it again")
        embeddings = prepare_embeddings(project)
        with project.progress.stage("prepare sources"):
            recommender = incremental.build_recommender(project, embeddings, spec.basis)
            users = project.dataset.users_to_score()
            changed = incremental.changed_users(project, spec.basis)
        self._state = _WorkerState(project, recommender, run, users, changed, warnings)

    def run(self, shard: Shard) -> ShardResult:
        """Compute and write a shard; one that is in the ledger already is not written again."""
        state = self._state
        assert state is not None, "setup comes first"
        settings, recommender = state.project.settings.recommend, state.recommender
        recommender.rule_stats = type(recommender.rule_stats)(recommender.rules)
        users = state.users[shard.index * settings.shard_users : (shard.index + 1) * settings.shard_users]
        started = time.perf_counter()
        changed, kept = self._partition_changed(state, users)
        frame = recommender.recommend_shard(changed, settings.k, include_default=shard.index == 0)
        scored = time.perf_counter()
        if self._writer is not None:
            self._writer.write(shard.index, frame, n_users=len(users), carried_over=kept)
        else:
            with defer_signals():
                retry_transaction(
                    lambda: state.run.write_shard(shard.index, frame, n_users=len(users), carried_over=kept)
                )
        warnings, state.warnings[:] = tuple(dict.fromkeys(state.warnings)), []
        return ShardResult(
            users=len(users),
            lists_computed=len(changed),
            lists_kept=0 if kept is None else len(kept.users),
            score_seconds=scored - started,
            write_seconds=time.perf_counter() - scored,
            rule_stats=recommender.rule_stats.to_dict(),
            peak_mb=peak_mb(),
            warnings=warnings,
        )

    def _partition_changed(self, state: _WorkerState, users: IntArray) -> tuple[IntArray, CarriedOverLists | None]:
        """Split users into those whose lists are computed and those whose lists are carried over."""
        import numpy as np

        from recsys.store.carried_lists import CarriedOverLists
        from recsys.store.recommendations import users_with_lists

        previous = self.spec.basis.previous_run_id
        if previous is None or not len(users):
            return users, None
        ids = np.array(state.project.dataset.users.ids(users), object)
        placement = state.project.settings.recommend.placement
        with state.project.store.reader() as connection:
            listed = users_with_lists(connection, previous, ids[0], ids[-1], placement=placement)
        keep_mask = ~state.changed[users] & np.array([user in listed for user in ids.tolist()], np.bool_)
        kept = ids[keep_mask].tolist()
        if not kept:
            return users, None
        others = sorted(user for user in listed - set(kept) if kept[0] < user < kept[-1])
        return users[~keep_mask], CarriedOverLists(previous, kept, others)


class _WarningCollector(logging.Handler):
    """Appends the messages of warnings to a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())
