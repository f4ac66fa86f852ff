"""Everything a report tells, gathered from the store, the artifacts and the data.

In: an open project, the moment. Out: `Content`. What does not exist yet is None or empty in it; nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.db.engine import read
from recsys.evaluate.backtest import SCHEMA
from recsys.pipeline import evaluate_result as evidence
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.project import Project
from recsys.pipeline.report_data import exposure
from recsys.pipeline.report_data import learning_curves as curves
from recsys.pipeline.report_data import neighbour_agreement as kinship
from recsys.pipeline.report_data import provenance as origins
from recsys.pipeline.report_data import samples as exhibits
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.recommend.rules.statistics import rows as rows_of
from recsys.report import content as told
from recsys.report.measurements import Evaluation, Figure, Grid, Pair
from recsys.store import publication as pointer
from recsys.store import run_statistics as looks

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_AGREEMENT_PRODUCTS, _COMPARED_USERS, _REASONS = 400, 5000, 20
OURS = "recsys"


def collect_content(project: Project, *, now: int) -> told.ReportContent:
    """Look at the project as it stands.

    Args:
        project: the project.
        now: UTC seconds; what ages are told from.

    Raises:
        DatabaseUnavailableError: the database does not answer.
    """
    settings, dataset = project.settings, project.dataset
    placement = settings.recommend.placement
    shelf = ProductTable(dataset.catalogue)
    with project.store.reader() as connection:
        published = pointer.published_run(connection, placement)
        run = None if published is None else dict(published)
    people: tuple[told.UserExample, ...] = ()
    shown = lists = changes = None
    if run is not None:
        people = exhibits.sample_users(dataset, project.store, shelf, wanted=settings.report.users, placement=placement)
        with project.store.reader() as connection:
            places = looks.product_counts(connection, run["run_id"])
            whole = looks.extent(connection, run["run_id"], places)
        lists, changes = _lists(project, run, whole), _changes(project, run, whole)
        shown = exposure.measure_exposure(dataset, places, shelf)
    explorer = exhibits.sample_neighbours(dataset.catalogue, project.store, shelf, wanted=settings.report.products)
    groups = exhibits.load_clusters(dataset.catalogue, settings.artifacts / "clusters", shelf)
    return told.ReportContent(
        shop=settings.project.absolute().name or "shop",
        at=now,
        products=shelf.products(),
        pixels=shelf.pixels(),
        quality=_quality(project),
        training=curves.load_learning_curves(project),
        agreement=_agreement(project),
        evaluation=_evaluation(project),
        lists=lists,
        exposure=shown,
        clusters=groups,
        people=people,
        explorer=explorer,
        changes=changes,
        provenance=origins.collect_provenance(project, run, now=now),
        settings=origins.non_default_settings(settings),
    )


def seconds(at: datetime | None) -> int:
    """A time of the store as UTC seconds, 0 for none; one without a zone is UTC."""
    if at is None:
        return 0
    return int((at if at.tzinfo else origins.utc(at)).timestamp())


def _quality(project: Project) -> told.DataQuality:
    dataset, n = project.dataset, len(project.dataset.catalogue)
    frame, counts = dataset.catalogue.frame, dataset.counts
    with project.store.reader() as connection:
        found = looks.rejected_row_counts(connection)
        kinds = list(found.head(_REASONS).iter_rows(named=True))
        rows = [
            (one["table_name"], one["code"], _meant(project, connection, one), one["rows"], one["source"])
            for one in kinds
        ]
    events = read(
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
    spoken = {
        "products": "products",
        "products_with_picture": "products with a picture",
        "products_sellable": "products that may be sold",
        "users": "users",
        "users_with_events": "users with a history",
        "events": "events",
        "events_of_unknown_products": "events of unknown products",
    }
    span = None if counts.get("first_event") is None else (counts["first_event"], counts["last_event"])
    numbers = tuple((said, int(counts[name])) for name, said in spoken.items() if name in counts)
    return told.DataQuality(
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


def _meant(project: Project, connection: Connection, kind: Mapping[str, Any]) -> str:
    """The first row of a kind of rejects, and what is wrong with it."""
    names = ("source", "table_name", "code")
    row = looks.example(connection, **{name: kind[name] for name in names})
    return rejects.message(row, decimal=project.settings.data.decimal)


def _agreement(project: Project) -> tuple[Figure, ...]:
    catalogue = project.dataset.catalogue
    sellable = np.flatnonzero(catalogue.sellable)
    rows = sellable[exhibits.evenly_spaced(len(sellable), _AGREEMENT_PRODUCTS)]
    with project.store.reader() as connection:
        near = looks.neighbours(connection, catalogue.ids.ids(rows), placement=SIMILAR, k=10)
    if not near.height:
        return ()
    columns = exhibits.agreement_columns(catalogue)
    return kinship.neighbour_agreement(catalogue, rows, near, columns, seed=project.settings.training.seed)


def _evaluation(project: Project) -> Evaluation | None:
    found = evidence.load_last_evaluation(project.settings)
    if found is None:
        return None
    facts, judged = found.facts, found.judged
    figures = tuple(Figure(*row) for row in judged.frame.select(list(SCHEMA)).iter_rows())
    chosen = judged.paired.select(
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
        ours=OURS if OURS in set(judged.frame["system"]) else "",
        how=how,
        k=int(facts["k"]),
        users=int(facts["test_users"]),
        same_data=facts.get("data_fingerprint") == project.dataset.fingerprint,
        same_settings=same,
        figures=figures,
        pairs=tuple(Pair(*row) for row in chosen.iter_rows()),
    )


def _lists(project: Project, run: Mapping[str, Any], whole: looks.RunExtent) -> told.ListSummary:
    k = int((run["extra"] or {}).get("k", project.settings.recommend.k))
    metrics, counts = run["metrics"] or {}, run["counts"] or {}
    with project.store.reader() as connection:
        full = looks.full_list_count(connection, run["run_id"], k)
    drops = metrics.get("drops") or {}
    rows = tuple(rows_of(drops)) if "products_barred" in drops else ()
    taken, memory = metrics.get("seconds") or {}, metrics.get("peak_mb") or {}
    return told.ListSummary(
        run_id=str(run["run_id"]),
        published=seconds(run["published_at"]),
        users=int(counts.get("users", whole.users)),
        covered=whole.users,
        k=k,
        short=whole.users - full,
        drops=Grid("What the rules did", ("rule", "what", "count"), rows),
        stages=Grid(
            "Steps of the run",
            ("step", "seconds", "peak MB"),
            tuple((one, taken[one], memory.get(one)) for one in taken),
        ),
    )


def _changes(project: Project, run: Mapping[str, Any], now: looks.RunExtent) -> told.RunChanges | None:
    """This run beside the one that was published before it, as long as the rows of that one are there."""
    users = project.dataset.users.texts
    some = [users[at] for at in exhibits.evenly_spaced(len(users), _COMPARED_USERS)]
    with project.store.reader() as connection:
        before = looks.previous_run(connection, run["placement"])
        if before is None:
            return None
        facts = pointer.run_row(connection, before)
        if facts["pruned_at"] is not None:
            return None
        then = looks.extent(connection, before, looks.product_counts(connection, before))
        share, compared = looks.overlap(connection, run["run_id"], before, some)
    rows = (
        ("run", before, str(run["run_id"])),
        ("published", origins.format_time(facts["published_at"]), origins.format_time(run["published_at"])),
        ("users with a list", then.users, now.users),
        ("rows", then.rows, now.rows),
        ("products shown", then.products, now.products),
        ("products in the catalogue", (facts["counts"] or {}).get("products"), (run["counts"] or {}).get("products")),
        ("model", facts["model_version"], run["model_version"]),
        ("data", facts["data_fingerprint"], run["data_fingerprint"]),
        ("settings of the lists", facts["config_hash"], run["config_hash"]),
    )
    return told.RunChanges(
        before, Grid("This run beside the one before", ("what", "before", "now"), rows), share, compared
    )
