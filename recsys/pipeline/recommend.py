"""The lists: every user scored, written shard by shard, published; or the lists of some users, shown.

In: a Bench. Out: a run in the store that consumers read, a Report.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import DataContractError, UsageError
from recsys.execution import registry as engines
from recsys.execution import signals as stop
from recsys.execution.shards import Shard, plan
from recsys.pipeline import recommend_incremental as basis
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.recommend_incremental import RunBasis
from recsys.pipeline.recommend_stats import RunStats
from recsys.pipeline.recommend_task import RecommendTask, TaskSpec
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend.ranking import checkpoint as rankers
from recsys.recommend.recommender import Recommender
from recsys.recommend.rules.statistics import merge_rule_stats, warnings
from recsys.recommend.rules.statistics import rows as rows_of
from recsys.store import run_parts as parts
from recsys.store.background_writer import BackgroundWriter
from recsys.store.run_ledger import Manifest
from recsys.store.run_writer import RunWriter

if TYPE_CHECKING:
    import polars as pl

    from recsys.store.run_parts import JoinedRun

logger = logging.getLogger(__name__)
_RETRIES = 2
"""How often a shard is made again after its worker has died, or the database was away."""
DROPS = "drops"
"""The table of a report that says what the rules did."""


@dataclass(frozen=True)
class RecommendOptions:
    """How `recommend` is to go about it.

    Attributes:
        publish: let consumers read the run.
        resume: go on with an unfinished run of the same models, data and settings.
        full: make every list, from all that is known today, although recommend.incremental is on.
        everybody: make every list, from what was known at the last full run; to check an incremental one.
        part: which part of the run this process makes.
        parts: how many processes, on any machines, make the run together; 0 = this one makes all of it.
    """

    publish: bool = True
    resume: bool = True
    full: bool = False
    everybody: bool = False
    part: int = 0
    parts: int = 0


def build_recommender(bench: Project) -> Recommender:
    """The recommender over today's data, the newest models and vectors in step with both."""
    table = update_embeddings(bench).table if bench.writes else bench.current_embeddings()
    with bench.progress.stage("prepare sources"):
        return basis.build_recommender(bench, table, RunBasis())


def recommend(bench: Project, way: RecommendOptions = RecommendOptions()) -> CommandResult:  # noqa: B008 - frozen
    """Make every user's list, write them as one run, and let consumers read it.

    An unfinished run of the same models, data and settings is gone on with: its shards are skipped.

    Raises:
        PublishGuardError: the run is finished but a guard refuses it; what consumers read stays.
        DataContractError: there are no events, or the rules leave no product to any user; nothing is published.
        InterruptedRunError: a signal came; shards written so far stay and the same command goes on.
        LeaseHeldError: a part of a run finds another run at work.
    """
    settings, store = bench.settings.recommend, bench.store
    if way.parts:
        plan("", "", 0, part=way.part, parts=way.parts)
    table = update_embeddings(bench).table if bench.writes else bench.current_embeddings()
    dataset = bench.dataset
    if not len(dataset.interactions):
        raise DataContractError("there are no events; run 'recsys ingest' with events such as purchases")
    with bench.progress.stage("decide what to make"):
        night = basis.decide_run_mode(bench, table, full=way.full, everybody=way.everybody)
    users, products = len(dataset.users_to_score()), len(dataset.catalogue)
    extra = {"k": settings.k, **night.extra()}
    manifest = Manifest(bench.model_version, dataset.fingerprint, bench.recommendation_settings_hash(), extra)
    of = max(1, -(-users // settings.shard_users))
    tally = RunStats(users, products, night.reason, metrics={"ranker": rankers.ranker_metrics(bench.ranker)})
    if way.parts:
        joined = parts.join_run(store, "recommend", manifest, placement=settings.placement, number=way.parts)
        return _run_part(bench, way, joined, night, tally, of)
    with store.begin_run("recommend", manifest, placement=settings.placement, resume=way.resume) as run:
        tally.resumed = len(run.done)
        _run_shards(bench, run, night, tally, plan(run.run_id, "recommend", of, done=run.done), of=of)
        _require_nonempty(run, users)
        run.finish(tally.counts(), tally.document(bench.progress))
        if way.publish:
            with bench.progress.stage("publish"), stop.defer_signals():
                bench.store.publish(run.run_id, guards=bench.settings.publish, expected_users=users)
    return _build_result(bench, run.run_id, tally, "published" if way.publish else "ready")


def _run_shards(
    bench: Project, run: RunWriter, night: RunBasis, tally: RunStats, shards: Iterable[Shard], *, of: int
) -> None:
    """Have the shards made, wherever the settings say."""
    settings = bench.settings.recommend
    engine = engines.get_executor(settings.engine)
    workers = engines.worker_count(settings.engine, settings.workers)
    here = bench.settings.model_copy(update={"project": bench.settings.project.absolute()})
    work = TaskSpec(here, run.run_id, run.writer, bench.dataset.fingerprint, bench.model_version, night)
    tally.engine, tally.workers, before = settings.engine, workers, len(run.done)
    with bench.progress.stage("recommend") as progress, ExitStack() as held:
        if settings.engine == "local":
            task = RecommendTask(work, bench, held.enter_context(BackgroundWriter(run)))
        else:
            task = RecommendTask(work)
            bench.reload()  # the workers load it; held here too, it would only take memory
        for shard, made in engine.map(task, shards, workers=workers, retries=_RETRIES):
            if settings.engine != "local":
                run.done.add(shard.index)  # written by somebody else
            tally.add(made)
            progress(before + tally.shards, of, users=float(tally.users_done))
        tally.seconds = bench.progress.elapsed("recommend")
    for warning in tally.warned:
        logger.warning("%s", warning)


def _run_part(
    bench: Project, way: RecommendOptions, joined: JoinedRun, night: RunBasis, tally: RunStats, of: int
) -> CommandResult:
    """Make this part's shards; whoever completes the run finishes and publishes it."""
    run, state = joined.run, joined.state
    if state == "building":
        tally.resumed = len(run.done)
        todo = plan(run.run_id, "recommend", of, done=run.done, part=way.part, parts=way.parts)
        _run_shards(bench, run, night, tally, todo, of=of)
        notes = parts.record_part(bench.store, run, way.part, tally.to_dict(bench.progress))
        whole = tally.merge(notes)
        if not parts.missing_shards(bench.store, run, of):
            _require_nonempty(run, tally.users)
        metrics = {**whole.document(bench.progress), parts.PARTS: notes}
        if parts.finish_if_complete(bench.store, run, of, counts=whole.counts(), metrics=metrics):
            state, tally = "ready", whole
    if state == "ready" and way.publish:
        with bench.progress.stage("publish"), stop.defer_signals():
            bench.store.publish(run.run_id, guards=bench.settings.publish, expected_users=tally.users)
        state = "published"
    return _build_result(bench, run.run_id, tally, state, missing=parts.missing_shards(bench.store, run, of))


def _require_nonempty(run: RunWriter, users: int) -> None:
    """Refuse a run that has no list for anybody."""
    if users and not run.has_rows():
        raise DataContractError(f"the rules leave no product to any of {users} users; change [rules]")


def _build_result(bench: Project, run_id: str, tally: RunStats, state: str, *, missing: int = 0) -> CommandResult:
    said = {
        "published": f"run {run_id} is published",
        "ready": f"run {run_id} is ready; publish it with: recsys publish {run_id}",
        "building": f"this part of run {run_id} is done; {missing} shards of other parts are missing, the part that "
        "makes the last of them publishes the run",
    }
    drops = merge_rule_stats([tally.drops])
    return CommandResult(
        "recommend",
        status="done" if tally.shards else "nothing_new",
        run_id=run_id,
        counts=tally.counts(),
        warnings=warnings(drops),
        tables=[bench.stage_table(), Table(DROPS, ("rule", "what", "count"), rows_of(drops))],
        notes=[said[state], *tally.notes()],
    )


def read_user_ids(users: Sequence[str], file: Path | None) -> list[str]:
    """User ids from the command line and from a file with one id a line, each once.

    Raises:
        UsageError: the file cannot be read, or names nobody.
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


def compute_recommendations(bench: Project, users: Sequence[str] | None, *, k: int | None = None) -> pl.DataFrame:
    """Lists made now: user_id, rank, product_id, score, reason, reason_product_id; nothing is written."""
    recommender = build_recommender(bench)
    ids = bench.dataset.users.texts if users is None else users
    return recommender.recommend(list(ids), k or bench.settings.recommend.k)


def add_titles(bench: Project, lists: pl.DataFrame) -> pl.DataFrame:
    """Lists for people: the product's title beside its id."""
    import polars as pl

    catalogue = bench.dataset.catalogue
    titles = catalogue.titles(catalogue.ids.rows(lists["product_id"].to_list()))
    held = lists.with_columns(pl.Series("title", titles, dtype=pl.String))
    return held.select("user_id", "rank", "product_id", "title", "score", "reason")


def show_recommendations(bench: Project, users: Sequence[str]) -> CommandResult:
    """The lists of some users, made now and shown; nothing is written.

    A user that the data does not know gets the list for users without history, and a warning says so.
    """
    frame = add_titles(bench, compute_recommendations(bench, users))
    unknown = [user for user in users if user not in bench.dataset.users]
    warnings = [f"user '{user}' is unknown and gets the list for users without history" for user in unknown[:10]]
    return CommandResult(
        "recommend",
        counts={"users": len(users)},
        warnings=warnings,
        tables=[Table.from_frame("recommendations", frame)],
    )
