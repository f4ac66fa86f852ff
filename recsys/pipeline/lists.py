"""The lists: every user scored, written shard by shard, published; or the lists of some users, shown.

In: a Bench. Out: a run in the store that consumers read, a Report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import DataContractError, UsageError
from recsys.execution import stop
from recsys.pipeline import rankers
from recsys.pipeline.bench import Bench
from recsys.pipeline.report import Report, Table
from recsys.pipeline.space import embedded
from recsys.recommend.recommender import Recommender
from recsys.store.runs import Manifest
from recsys.store.writer import Writer

if TYPE_CHECKING:
    import polars as pl

DROPS = "drops"
"""The table of a report that says what the rules did."""


def assembled(bench: Bench) -> Recommender:
    """The recommender over today's data, the newest models and vectors in step with both."""
    table = embedded(bench).table if bench.writes else bench.table_in_step()
    dataset, settings = bench.dataset, bench.settings
    with bench.watch.stage("prepare sources"):
        return Recommender.assemble(
            dataset.catalogue,
            dataset.interactions,
            model=bench.model,
            content=table.vectors,
            blend=bench.blend,
            recommend=settings.recommend,
            rules=settings.rules,
            users=dataset.users,
        )


def recommend(bench: Bench, *, publish: bool = True, resume: bool = True) -> Report:
    """Make every user's list, write them as one run, and let consumers read it.

    An unfinished run of the same models, data and settings is gone on with: its shards are skipped.

    Raises:
        PublishGuardError: the run is finished but a guard refuses it; what consumers read stays.
        DataContractError: the rules leave no product to any user; nothing is published.
        InterruptedRunError: a signal came; shards written so far stay and the same command goes on.
    """
    settings = bench.settings
    recommender = assembled(bench)
    dataset = bench.dataset
    users = dataset.users_to_score()
    manifest = Manifest(bench.model_version, dataset.fingerprint, bench.list_hash(), {"k": settings.recommend.k})
    store, placement = bench.store, settings.recommend.placement
    with store.begin("recommend", manifest, placement=placement, resume=resume) as run:
        resumed = len(run.done)
        with bench.watch.stage("recommend") as progress, Writer(run) as writer:
            chunk, done = settings.recommend.shard_users, min(len(users), resumed * settings.recommend.shard_users)
            for shard, frame, n_users in recommender.stream(users, settings.recommend.k, chunk=chunk, skip=run.done):
                writer.write(shard, frame, n_users=n_users)
                done += n_users
                progress(min(done, len(users)), len(users))
        counts = {"users": len(users), "products": len(dataset.catalogue), "shards_resumed": resumed}
        if len(users) and not run.lists_anybody():
            raise DataContractError(f"the rules leave no product to any of {len(users)} users; change [rules]")
        # What the rules did is known of the shards made now, not of those an earlier call wrote.
        drops = {"shards_counted": len(run.done) - resumed, "shards": len(run.done), **recommender.drops.document()}
        used = {"seconds": bench.watch.seconds, "peak_mb": bench.watch.peak_mb}
        run.finish(counts, {**used, "drops": drops, "ranker": rankers.metrics(bench.blend)})
        if publish:
            with bench.watch.stage("publish"), stop.deferred():
                run.publish(settings.publish, expected_users=len(users))
    notes = [
        f"run {run.run_id} is {'published' if publish else 'ready; publish it with: recsys publish ' + run.run_id}"
    ]
    said = Table(DROPS, ("rule", "what", "count"), recommender.drops.rows())
    return Report(
        "recommend",
        run_id=run.run_id,
        counts=counts,
        warnings=recommender.drops.warnings(),
        tables=[bench.times(), said],
        notes=notes,
    )


def named(users: Sequence[str], file: Path | None) -> list[str]:
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


def computed(bench: Bench, users: Sequence[str] | None, *, k: int | None = None) -> pl.DataFrame:
    """Lists made now: user_id, rank, product_id, score, reason, reason_product_id; nothing is written."""
    recommender = assembled(bench)
    ids = bench.dataset.users.texts if users is None else users
    return recommender.recommend(list(ids), k or bench.settings.recommend.k)


def with_titles(bench: Bench, lists: pl.DataFrame) -> pl.DataFrame:
    """Lists for people: the product's title beside its id."""
    import polars as pl

    catalogue = bench.dataset.catalogue
    titles = catalogue.titles(catalogue.ids.rows(lists["product_id"].to_list()))
    held = lists.with_columns(pl.Series("title", titles, dtype=pl.String))
    return held.select("user_id", "rank", "product_id", "title", "score", "reason")


def show(bench: Bench, users: Sequence[str]) -> Report:
    """The lists of some users, made now and shown; nothing is written.

    A user that the data does not know gets the list for users without history, and a warning says so.
    """
    frame = with_titles(bench, computed(bench, users))
    unknown = [user for user in users if user not in bench.dataset.users]
    warnings = [f"user '{user}' is unknown and gets the list for users without history" for user in unknown[:10]]
    return Report(
        "recommend", counts={"users": len(users)}, warnings=warnings, tables=[Table.of("recommendations", frame)]
    )
