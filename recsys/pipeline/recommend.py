"""The `recommend` command: scores every user shard by shard, writes one run, publishes it; or shows some users' lists.

In: an open project. Out: a run in the store that consumers read, a result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import DataContractError, UsageError
from recsys.execution.registry import get_executor, worker_count
from recsys.execution.shards import Shard, plan_shards
from recsys.execution.signals import defer_signals
from recsys.pipeline import recommend_incremental as incremental
from recsys.pipeline.embed import prepare_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.recommend_incremental import RunBasis
from recsys.pipeline.recommend_stats import RunStats
from recsys.pipeline.recommend_task import RecommendTask, TaskSpec
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend.ranking.checkpoint import ranker_metrics
from recsys.recommend.recommender import Recommender
from recsys.recommend.rules import statistics
from recsys.store import run_parts
from recsys.store.background_writer import BackgroundWriter
from recsys.store.run_ledger import RunManifest
from recsys.store.run_writer import RunWriter

if TYPE_CHECKING:
    import polars as pl

logger = logging.getLogger(__name__)
_MAX_RETRIES = 2
"""How often a shard is repeated after its worker died or the database was unreachable."""
DROPS = "drops"
"""Name of the result table that shows what the rules removed."""


@dataclass(frozen=True)
class RecommendOptions:
    """Options of the `recommend` command.

    Attributes:
        publish: publish the run, so that consumers read it.
        resume: continue an unfinished run of the same models, data and settings.
        full: compute every list from the current data, even if recommend.incremental is on.
        all_users: compute every list from the data of the last full run; to verify an incremental run.
        part: index of the part of the run that this process computes.
        parts: number of processes, on any machines, that share the run; 0 = this process computes all of it.
    """

    publish: bool = True
    resume: bool = True
    full: bool = False
    all_users: bool = False
    part: int = 0
    parts: int = 0


def create_recommender(project: Project) -> Recommender:
    """Build the recommender from the current data, the latest models and up-to-date embeddings."""
    embeddings = prepare_embeddings(project)
    with project.progress.stage("prepare sources"):
        return incremental.build_recommender(project, embeddings, RunBasis())


def recommend(project: Project, options: RecommendOptions = RecommendOptions()) -> CommandResult:  # noqa: B008 - frozen
    """Compute the recommendations of every user, write them as one run, and publish it.

    An unfinished run of the same models, data and settings is resumed: its written shards are skipped.

    Raises:
        PublishGuardError: the run is finished but a guard refuses it; consumers still read the previous run.
        DataContractError: there are no events, or the rules leave no product to any user; nothing is published.
        InterruptedRunError: a signal came; the written shards stay and the same command resumes.
        LeaseHeldError: this is a part of a run and another run is being written.
    """
    settings, store = project.settings.recommend, project.store
    if options.parts:
        plan_shards(
            "", "", 0, part=options.part, parts=options.parts
        )  # refuses a part that does not exist before any work
    embeddings, dataset = prepare_embeddings(project), project.dataset
    if not len(dataset.interactions):
        raise DataContractError("there are no events; run 'recsys ingest' with events such as purchases")
    with project.progress.stage("decide what to make"):
        basis = incremental.decide_run_mode(project, embeddings, full=options.full, all_users=options.all_users)
    extra = {"k": settings.k, **basis.to_manifest()}
    manifest = RunManifest(project.model_version, dataset.fingerprint, project.recommendation_settings_hash(), extra)
    n_users = len(dataset.users_to_score())
    n_shards = max(1, -(-n_users // settings.shard_users))
    stats = RunStats(n_users, len(dataset.catalogue), basis.reason, metrics={"ranker": ranker_metrics(project.ranker)})

    run, state = _begin_run(project, manifest, options)
    with nullcontext() if options.parts else run:  # a failing part does not note its reason on the shared run
        if state == "building":
            stats.shards_resumed, parts = len(run.finished_shards), options.parts or 1
            shards = plan_shards(
                run.run_id, "recommend", n_shards, finished=run.finished_shards, part=options.part, parts=parts
            )
            _run_shards(project, run, basis, stats, shards, n_shards)
            stats, state = _finish_run(project, run, stats, options, n_shards)
        if state == "ready" and options.publish:
            with project.progress.stage("publish"), defer_signals():
                store.publish(
                    run.run_id,
                    guards=project.settings.publish,
                    expected_users=n_users,
                    available_only=project.settings.rules.available_only,
                )
            state = "published"
    missing = run_parts.missing_shard_count(store, run, n_shards) if state == "building" else 0
    drops = statistics.merge_rule_stats([stats.rule_stats])
    return CommandResult(
        "recommend",
        status="done" if stats.shards else "nothing_new",
        run_id=run.run_id,
        counts=stats.counts(),
        warnings=statistics.rule_stats_warnings(drops),
        tables=[project.stage_table(), Table(DROPS, ("rule", "what", "count"), statistics.rule_stats_rows(drops))],
        notes=[_describe_state(run.run_id, state, missing), *stats.notes()],
    )


def _begin_run(project: Project, manifest: RunManifest, options: RecommendOptions) -> tuple[RunWriter, str]:
    """Begin or resume the run, or join it as one of several parts; return it with its state."""
    placement = project.settings.recommend.placement
    if options.parts:
        joined = run_parts.join_run(project.store, "recommend", manifest, placement=placement, n_parts=options.parts)
        return joined.run, joined.state
    return project.store.begin_run("recommend", manifest, placement=placement, resume=options.resume), "building"


def _run_shards(
    project: Project, run: RunWriter, basis: RunBasis, stats: RunStats, shards: Iterable[Shard], n_shards: int
) -> None:
    """Compute and write the shards with the configured execution engine; adds their results to `stats`."""
    settings, local = project.settings.recommend, project.settings.recommend.engine == "local"
    executor, workers = get_executor(settings.engine), worker_count(settings.engine, settings.workers)
    worker_settings = project.settings.model_copy(update={"project": project.settings.project.absolute()})
    spec = TaskSpec(worker_settings, run.run_id, run.writer, project.dataset.fingerprint, project.model_version, basis)
    stats.engine, stats.workers = settings.engine, workers
    with project.progress.stage("recommend") as progress, ExitStack() as stack:
        if local:
            task = RecommendTask(spec, project, stack.enter_context(BackgroundWriter(run)))
        else:
            task = RecommendTask(spec)
            project.reload()  # the workers load their own copy; keeping this one would only take memory
        for shard, result in executor.map(task, shards, workers=workers, retries=_MAX_RETRIES):
            if not local:
                run.finished_shards.add(shard.index)  # a worker's own RunWriter wrote it
            stats.add(result)
            progress(stats.shards_resumed + stats.shards, n_shards, users=float(stats.users_done))
        stats.seconds = project.progress.elapsed_seconds("recommend")
    for warning in stats.warnings:
        logger.warning("%s", warning)


def _finish_run(
    project: Project, run: RunWriter, stats: RunStats, options: RecommendOptions, n_shards: int
) -> tuple[RunStats, str]:
    """Finish the run; of several parts, the one that completes it does, with the statistics of all parts.

    Returns:
        Statistics of the finished run, or of this part while shards of others are missing; and the run's state.

    Raises:
        DataContractError: no user has a recommendation.
    """
    if not options.parts:
        _require_nonempty(run, stats.users)
        run.finish(stats.counts(), stats.to_metrics(project.progress))
        return stats, "ready"
    store = project.store
    part_stats = run_parts.record_part(store, run, options.part, stats.to_dict(project.progress))
    run_stats = stats.merge(part_stats)
    if not run_parts.missing_shard_count(store, run, n_shards):
        _require_nonempty(run, stats.users)
    metrics = {**run_stats.to_metrics(project.progress), run_parts.PARTS_KEY: part_stats}
    if run_parts.finish_if_complete(store, run, n_shards, counts=run_stats.counts(), metrics=metrics):
        return run_stats, "ready"
    return stats, "building"


def _require_nonempty(run: RunWriter, users: int) -> None:
    if users and not run.has_rows():
        raise DataContractError(f"the rules leave no product to any of {users} users; change [rules]")


def _describe_state(run_id: str, state: str, missing: int) -> str:
    return {
        "published": f"run {run_id} is published",
        "ready": f"run {run_id} is ready; publish it with: recsys publish {run_id}",
        "building": f"this part of run {run_id} is done; {missing} shards of other parts are missing, the part that "
        "makes the last of them publishes the run",
    }[state]


def read_user_ids(users: Sequence[str], file: Path | None) -> list[str]:
    """Return the user ids of the command line and of a file with one id per line, without duplicates.

    Raises:
        UsageError: the file cannot be read, or there is no user id.
    """
    ids = list(users)
    if file is not None:
        try:
            ids += [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: cannot be read as a list of user ids, one a line: {error}") from error
    if not ids:
        raise UsageError(f"{file}: names no user; write one user id a line")
    return list(dict.fromkeys(ids))


def compute_recommendations(project: Project, users: Sequence[str] | None, *, k: int | None = None) -> pl.DataFrame:
    """Compute recommendations without writing them.

    Args:
        project: the project.
        users: user ids; None = all users.
        k: length of each list; None = [recommend] k.

    Returns:
        user_id, rank, product_id, score, reason, reason_product_id.
    """
    recommender = create_recommender(project)
    ids = project.dataset.users.texts if users is None else users
    return recommender.recommend(list(ids), k or project.settings.recommend.k)


def add_titles(project: Project, recommendations: pl.DataFrame) -> pl.DataFrame:
    """Add the product's title beside its id, and keep the columns shown to people."""
    import polars as pl

    catalogue = project.dataset.catalogue
    titles = catalogue.titles(catalogue.ids.rows(recommendations["product_id"].to_list()))
    titled = recommendations.with_columns(pl.Series("title", titles, dtype=pl.String))
    return titled.select("user_id", "rank", "product_id", "title", "score", "reason")


def show_recommendations(project: Project, users: Sequence[str]) -> CommandResult:
    """Compute and show the recommendations of some users; nothing is written.

    An unknown user gets the list for users without history, and a warning.
    """
    frame = add_titles(project, compute_recommendations(project, users))
    unknown = [user for user in users if user not in project.dataset.users]
    warnings = [f"user '{user}' is unknown and gets the list for users without history" for user in unknown[:10]]
    return CommandResult(
        "recommend",
        counts={"users": len(users)},
        warnings=warnings,
        tables=[Table.from_frame("recommendations", frame)],
    )
