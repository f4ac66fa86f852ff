"""Collects the content of a report from the store, the artifacts and the data.

In: an open project, the current time. Out: `ReportContent`; missing parts are None or empty, nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.db.engine import read_frame
from recsys.evaluate.backtest import METRIC_SCHEMA
from recsys.pipeline.evaluate_result import load_last_evaluation
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.project import Project
from recsys.pipeline.report_data import exposure, learning_curves, neighbour_agreement, provenance, samples
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.recommend.rules.statistics import rule_stats_rows as rows_of
from recsys.report import content
from recsys.report.measurements import Evaluation, Figure, Grid, Pair
from recsys.store import publication, run_statistics

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_MAX_AGREEMENT_PRODUCTS, _MAX_COMPARED_USERS, _MAX_REJECT_REASONS = 400, 5000, 20
OURS = "recsys"


def collect_content(project: Project, *, now: int) -> content.ReportContent:
    """Collect the content of the report for the current state of the project.

    Args:
        project: the project.
        now: UTC seconds; ages are relative to it.

    Raises:
        DatabaseUnavailableError: the database does not answer.
    """
    settings, dataset = project.settings, project.dataset
    placement = settings.recommend.placement
    product_table = ProductTable(dataset.catalogue)
    with project.store.reader() as connection:
        published = publication.current_run(connection, placement)
        run = None if published is None else dict(published)
    people: tuple[content.UserExample, ...] = ()
    shown = lists = changes = None
    if run is not None:
        people = samples.sample_users(
            dataset, project.store, product_table, wanted=settings.report.users, placement=placement
        )
        with project.store.reader() as connection:
            places = run_statistics.product_counts(connection, run["run_id"])
            extent = run_statistics.run_extent(connection, run["run_id"], places)
        lists, changes = _lists(project, run, extent), _changes(project, run, extent)
        shown = exposure.measure_exposure(dataset, places, product_table)
    explorer = samples.sample_neighbours(
        dataset.catalogue, project.store, product_table, wanted=settings.report.products
    )
    groups = samples.load_clusters(dataset.catalogue, settings.artifacts / "clusters", product_table)
    return content.ReportContent(
        shop=settings.project.absolute().name or "shop",
        at=now,
        products=product_table.products(),
        pixels=product_table.pixels(),
        quality=_quality(project),
        training=learning_curves.load_learning_curves(project),
        agreement=_agreement(project),
        evaluation=_evaluation(project),
        lists=lists,
        exposure=shown,
        clusters=groups,
        people=people,
        explorer=explorer,
        changes=changes,
        provenance=provenance.collect_provenance(project, run, now=now),
        settings=provenance.non_default_settings(settings),
    )


def to_timestamp(time: datetime | None) -> int:
    """Convert a time of the store to UTC seconds, 0 for None; a time without a zone is UTC."""
    if time is None:
        return 0
    return int((time if time.tzinfo else provenance.utc(time)).timestamp())


def _quality(project: Project) -> content.DataQuality:
    dataset, n = project.dataset, len(project.dataset.catalogue)
    frame, counts = dataset.catalogue.frame, dataset.counts
    with project.store.reader() as connection:
        found = run_statistics.rejected_row_counts(connection)
        reject_kinds = list(found.head(_MAX_REJECT_REASONS).iter_rows(named=True))
        rows = [
            (one["table_name"], one["code"], _example_message(project, connection, one), one["rows"], one["source"])
            for one in reject_kinds
        ]
    events = read_frame(
        project.store.engine, "SELECT event_type, COUNT(*) AS events FROM events GROUP BY event_type ORDER BY 2 DESC, 1"
    )
    gaps = sorted(
        (
            (name.removeprefix(schema.ATTRIBUTE_PREFIX), frame[name].null_count())
            for name in frame.columns
            if name != schema.IMAGE_HASH  # who has a usable picture is counted
        ),
        key=lambda gap: (-gap[1], gap[0]),
    )
    labels = {
        "products": "products",
        "products_with_picture": "products with a picture",
        "products_sellable": "products that may be sold",
        "users": "users",
        "users_with_events": "users with a history",
        "events": "events",
        "events_of_unknown_products": "events of unknown products",
    }
    span = None if counts.get("first_event") is None else (counts["first_event"], counts["last_event"])
    numbers = tuple((label, int(counts[name])) for name, label in labels.items() if name in counts)
    return content.DataQuality(
        counts=(*numbers, ("rejected rows", int(found["rows"].sum()))),
        span=span,
        events=Grid("Events by type", ("type", "events"), tuple((kind, int(count)) for kind, count in events.rows())),
        missing=Grid(
            "Missing values by column",
            ("column", "missing", "share"),
            tuple((name, missing, missing / max(1, n)) for name, missing in gaps),
        ),
        rejects=Grid("Rejected rows by reason", ("table", "reason", "for example", "rows", "source"), tuple(rows)),
    )


def _example_message(project: Project, connection: Connection, kind: Mapping[str, Any]) -> str:
    """Describe the first rejected row of a kind, and its error."""
    names = ("source", "table_name", "code")
    row = run_statistics.example_rejected_row(connection, **{name: kind[name] for name in names})
    return rejects.message(row, decimal=project.settings.data.decimal)


def _agreement(project: Project) -> tuple[Figure, ...]:
    catalogue = project.dataset.catalogue
    sellable = np.flatnonzero(catalogue.sellable)
    rows = sellable[samples.evenly_spaced(len(sellable), _MAX_AGREEMENT_PRODUCTS)]
    with project.store.reader() as connection:
        near = run_statistics.published_neighbours(connection, catalogue.ids.ids(rows), placement=SIMILAR, k=10)
    if not near.height:
        return ()
    columns = samples.agreement_columns(catalogue)
    return neighbour_agreement.neighbour_agreement(catalogue, rows, near, columns, seed=project.settings.training.seed)


def _evaluation(project: Project) -> Evaluation | None:
    found = load_last_evaluation(project.settings)
    if found is None:
        return None
    facts, judged = found.metadata, found.result
    figures = tuple(Figure(*row) for row in judged.metrics.select(list(METRIC_SCHEMA)).iter_rows())
    chosen = judged.comparisons.select(
        "slice", "metric", "system", "other", "difference", "low", "high", pl.col("p_signflip").alias("p"), "users"
    )
    days = facts.get("test_days")
    how = {"time": f"purchases of the last {days:g} days held back" if days else "the last days held back",
           "last": "the last purchase of each user held back",
           "users": "a fifth of the users held back"}.get(str(facts.get("split")), str(facts.get("split")))  # fmt: skip
    same = (facts.get("list_hash"), facts.get("model_hash")) == (
        project.recommendation_settings_hash(),
        project.model_settings_hash(),
    )
    return Evaluation(
        at=int(facts["at"]),
        said=str(facts["verdict"]),
        ours=OURS if OURS in set(judged.metrics["system"]) else "",
        how=how,
        k=int(facts["k"]),
        users=int(facts["test_users"]),
        same_data=facts.get("data_fingerprint") == project.dataset.fingerprint,
        same_settings=same,
        figures=figures,
        pairs=tuple(Pair(*row) for row in chosen.iter_rows()),
    )


def _lists(project: Project, run: Mapping[str, Any], extent: run_statistics.RunExtent) -> content.ListSummary:
    k = int((run["extra"] or {}).get("k", project.settings.recommend.k))
    metrics, counts = run["metrics"] or {}, run["counts"] or {}
    with project.store.reader() as connection:
        full = run_statistics.full_list_count(connection, run["run_id"], k)
    drops = metrics.get("drops") or {}
    rows = tuple(rows_of(drops)) if "products_barred" in drops else ()
    taken, memory = metrics.get("seconds") or {}, metrics.get("peak_mb") or {}
    return content.ListSummary(
        run_id=str(run["run_id"]),
        published=to_timestamp(run["published_at"]),
        users=int(counts.get("users", extent.users)),
        covered=extent.users,
        k=k,
        short=extent.users - full,
        drops=Grid("What the rules did", ("rule", "what", "count"), rows),
        stages=Grid(
            "Steps of the run",
            ("step", "seconds", "peak MB"),
            tuple((one, taken[one], memory.get(one)) for one in taken),
        ),
    )


def _changes(project: Project, run: Mapping[str, Any], now: run_statistics.RunExtent) -> content.RunChanges | None:
    """Compare this run with the one published before it, if the rows of that run still exist."""
    users = project.dataset.users.texts
    some = [users[at] for at in samples.evenly_spaced(len(users), _MAX_COMPARED_USERS)]
    with project.store.reader() as connection:
        before = run_statistics.previous_run(connection, run["placement"])
        if before is None:
            return None
        facts = publication.get_run(connection, before)
        if facts["pruned_at"] is not None:
            return None
        then = run_statistics.run_extent(connection, before, run_statistics.product_counts(connection, before))
        share, compared = run_statistics.mean_list_overlap(connection, run["run_id"], before, some)
    rows = (
        ("run", before, str(run["run_id"])),
        ("published", provenance.format_time(facts["published_at"]), provenance.format_time(run["published_at"])),
        ("users with a list", then.users, now.users),
        ("rows", then.rows, now.rows),
        ("products shown", then.products, now.products),
        ("products in the catalogue", (facts["counts"] or {}).get("products"), (run["counts"] or {}).get("products")),
        ("model", facts["model_version"], run["model_version"]),
        ("data", facts["data_fingerprint"], run["data_fingerprint"]),
        ("settings of the lists", facts["config_hash"], run["config_hash"]),
    )
    return content.RunChanges(
        before, Grid("This run beside the one before", ("what", "before", "now"), rows), share, compared
    )
