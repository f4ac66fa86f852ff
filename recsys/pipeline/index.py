"""The `index` command: builds or updates the vector index and measures its recall against exact search.

In: an open project with current embeddings. Out: an index in artifacts/index, the neighbours of each product, a result.
"""

from __future__ import annotations

import numpy as np

from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.run_ledger import RunManifest
from recsys.vectors.index.cache import IndexHandle, open_index
from recsys.vectors.index.recall import SearchLatency
from recsys.vectors.search import neighbours, variants

SIMILAR = "similar"
"""Placement of the runs that hold neighbours."""
_NEIGHBOURS = 20
"""Neighbours of each product written for consumers."""


def open_current_index(
    project: Project, *, fresh: bool = False, measure: bool = False, queries: int | None = None
) -> IndexHandle:
    """Open the index over the embeddings: the saved one, updated, or a new one.

    Args:
        project: the project.
        fresh: rebuild the index even if the saved one is current.
        measure: measure recall and latency.
        queries: expected number of queries; for few of them no index has to be built.
    """
    return open_index(
        project.embeddings,
        project.settings.index,
        folder=project.index_folder,
        seed=project.settings.training.seed,
        force_rebuild=fresh,
        measure=measure,
        queries=queries,
    )


def build_index(project: Project, *, full: bool = False) -> CommandResult:
    """Update or build the index, measure it, write each product's neighbours for consumers."""
    table = update_embeddings(project).table
    with project.progress.stage("index"):
        handle = open_current_index(project, fresh=full, measure=True)
    with project.progress.stage("neighbours") as progress:
        catalogue = project.dataset.catalogue
        sellable = np.ascontiguousarray(catalogue.sellable)
        groups = None if project.settings.search.variants else variants.variant_groups(catalogue)
        frame = neighbours.nearest_neighbours(
            table, handle.index, _NEIGHBOURS, allow=sellable, groups=groups, progress=progress
        )
        manifest = RunManifest(table.model_id, project.dataset.fingerprint, project.settings.index.model_dump_json())
        with project.store.begin_run("similar", manifest, placement=SIMILAR) as run:
            run.write_table("similar_products_all", frame)
            counts = {"products": len(table), "neighbours": frame.height, "recall": round(handle.recall, 4)}
            run.finish(counts, {"kind": handle.index.kind, "recall": handle.recall})
            project.store.publish(run.run_id, guards=project.settings.publish)
    change = handle.delta
    if change is not None:
        counts |= {"added": change.added, "removed": change.removed, "changed": change.changed}
    return CommandResult(
        "index",
        run_id=run.run_id,
        counts=counts,
        artifacts={"index": project.index_folder},
        tables=_index_tables(handle),
    )


def _index_tables(handle: IndexHandle) -> list[Table]:
    """Kind, recall and latency of the index, and those of exact search for comparison."""
    measured = handle.metrics
    if measured is None:  # the catalogue is empty
        return [Table("index", ("kind", "products", "recall", "done"), [(handle.index.kind, 0, 1.0, handle.status)])]
    columns = ("kind", "products", "recall", "median_ms", "p95_ms", "queries_per_s", "done")
    row = (handle.index.kind, len(handle.index), handle.recall, *_latency_cells(measured.speed), handle.status)
    recalls = [(f"recall@10, {name}", value) for name, value in measured.recall.items()]
    exact_names = ("exact_median_ms", "exact_p95_ms", "exact_queries_per_s")
    figures = [*recalls, *zip(exact_names, _latency_cells(measured.exact), strict=True)]
    return [Table("index", columns, [row]), Table("measured", ("figure", "value"), figures)]


def _latency_cells(latency: SearchLatency) -> tuple[float, float, float]:
    return latency.median_ms, latency.p95_ms, latency.per_second
