"""The `index` command: builds or updates the vector index and measures its recall against exact search.

In: an open project with current embeddings. Out: an index in artifacts/index, the neighbours of each product, a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.run_ledger import Manifest
from recsys.vectors.index import cache as saved
from recsys.vectors.index import recall as yardstick
from recsys.vectors.search import neighbours, variants

if TYPE_CHECKING:
    pass

SIMILAR = "similar"
"""Placement of the runs that hold neighbours."""
_NEIGHBOURS = 20
"""Neighbours of each product written for consumers."""


def open_current_index(
    bench: Project, *, fresh: bool = False, measure: bool = False, queries: int | None = None
) -> saved.IndexHandle:
    """The index over the table: the saved one brought up to date, or a new one; for few `queries` none has to be."""
    return saved.open_index(
        bench.embeddings,
        bench.settings.index,
        folder=bench.index_folder,
        seed=bench.settings.training.seed,
        force_rebuild=fresh,
        measure=measure,
        queries=queries,
    )


def build_index(bench: Project, *, full: bool = False) -> CommandResult:
    """Bring the index up to date or build it, measure it, write each product's neighbours for consumers."""
    table = update_embeddings(bench).table
    with bench.progress.stage("index"):
        opened = open_current_index(bench, fresh=full, measure=True)
    with bench.progress.stage("neighbours") as progress:
        allow = np.ascontiguousarray(bench.dataset.catalogue.sellable)
        kin = None if bench.settings.search.variants else variants.variant_groups(bench.dataset.catalogue)
        frame = neighbours.nearest_neighbours(table, opened.index, _NEIGHBOURS, allow=allow, kin=kin, progress=progress)
        manifest = Manifest(table.model_id, bench.dataset.fingerprint, bench.settings.index.model_dump_json())
        with bench.store.begin_run("similar", manifest, placement=SIMILAR) as run:
            run.write_table("similar_products_all", frame)
            counts = {"products": len(table), "neighbours": frame.height, "recall": round(opened.recall, 4)}
            run.finish(counts, {"kind": opened.index.kind, "recall": opened.recall})
            bench.store.publish(run.run_id, guards=bench.settings.publish)
    change = opened.change
    if change is not None:
        counts |= {"added": change.added, "removed": change.removed, "changed": change.changed}
    return CommandResult(
        "index",
        run_id=run.run_id,
        counts=counts,
        artifacts={"index": bench.index_folder},
        tables=_facts_of(opened),
    )


def _facts_of(opened: saved.IndexHandle) -> list[Table]:
    """What the index is, how much it finds and how fast, beside exact search."""
    measured = opened.measured
    if measured is None:  # of an empty catalogue
        return [Table("index", ("kind", "products", "recall", "done"), [(opened.index.kind, 0, 1.0, opened.status)])]
    columns = ("kind", "products", "recall", "median_ms", "p95_ms", "queries_per_s", "done")
    speed = measured.speed
    row = (opened.index.kind, len(opened.index), opened.recall, *_figures(speed), opened.status)
    found = [(f"recall@10, {name}", value) for name, value in measured.recall.items()]
    names = ("exact_median_ms", "exact_p95_ms", "exact_queries_per_s")
    beside = [*found, *zip(names, _figures(measured.exact), strict=True)]
    return [Table("index", columns, [row]), Table("measured", ("figure", "value"), beside)]


def _figures(speed: yardstick.SearchLatency) -> tuple[float, float, float]:
    return speed.median_ms, speed.p95_ms, speed.per_second
