"""The space of products: vectors brought up to date, the index, and each product's neighbours.

In: a Bench. Out: Reports; vectors and neighbours in the store, the table and the index among the artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys.errors import NothingNewError
from recsys.pipeline.project import Bench
from recsys.pipeline.result import Report, Table
from recsys.store.store import Manifest
from recsys.types import FloatArray
from recsys.vectors.embeddings import update as build
from recsys.vectors.index import cache as saved
from recsys.vectors.index import recall as yardstick
from recsys.vectors.search import neighbours, variants

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue

SIMILAR = "similar"
"""Placement of the runs that hold neighbours."""

_NEIGHBOURS = 20
"""Neighbours of each product written for consumers."""


def embedded(bench: Bench) -> build.Built:
    """Encode what is stale and write the changed vectors to the store; once for what the bench has loaded."""
    return _brought_up_to_date(bench, bench.dataset.catalogue)


def _brought_up_to_date(bench: Bench, catalogue: Catalogue, *, full: bool = False) -> build.Built:
    if bench.in_step and not full:
        return build.Built(bench.table, 0, 0)
    with bench.watch.stage("embed") as progress:
        built = build.bring_up_to_date(
            catalogue,
            bench.product_model,
            folder=bench.embeddings,
            full=full,
            storage=bench.settings.embeddings.storage,
            progress=progress,
        )
        bench.table, bench.in_step = built.table, True
        bench.store.write_embeddings(
            list(built.table.ids.texts), built.table.vectors, built.table.model_id, built.table.hashes
        )
    return built


def embed(bench: Bench, *, full: bool = False, fail_if_noop: bool = False) -> Report:
    """Encode the products whose content or model changed.

    Raises:
        NothingNewError: nothing was stale and `fail_if_noop`.
    """
    built = _brought_up_to_date(bench, bench.catalogue, full=full)
    idle = not (built.encoded or built.removed or built.rewritten)
    if idle and fail_if_noop:
        raise NothingNewError("every product already has its vector")
    return Report(
        "embed",
        status="nothing_new" if idle else "done",
        counts={"products": len(built.table), "encoded": built.encoded, "removed": built.removed},
        artifacts={"embeddings": bench.embeddings},
        notes=[f"the table is stored as {built.table.storage} now"] if built.rewritten else [],
    )


def indexed(bench: Bench, *, fresh: bool = False, measure: bool = False, queries: int | None = None) -> saved.Opened:
    """The index over the table: the saved one brought up to date, or a new one; for few `queries` none has to be."""
    return saved.open_index(
        bench.table,
        bench.settings.index,
        folder=bench.indexes,
        seed=bench.settings.training.seed,
        fresh=fresh,
        measure=measure,
        queries=queries,
    )


def build_index(bench: Bench, *, full: bool = False) -> Report:
    """Bring the index up to date or build it, measure it, write each product's neighbours for consumers."""
    table = embedded(bench).table
    with bench.watch.stage("index"):
        opened = indexed(bench, fresh=full, measure=True)
    with bench.watch.stage("neighbours") as progress:
        allow = np.ascontiguousarray(bench.dataset.catalogue.sellable)
        kin = None if bench.settings.search.variants else variants.families(bench.dataset.catalogue)
        frame = neighbours.neighbours(table, opened.index, _NEIGHBOURS, allow=allow, kin=kin, progress=progress)
        manifest = Manifest(table.model_id, bench.dataset.fingerprint, bench.settings.index.model_dump_json())
        with bench.store.begin("similar", manifest, placement=SIMILAR) as run:
            run.write_table("similar_products_all", frame)
            counts = {"products": len(table), "neighbours": frame.height, "recall": round(opened.recall, 4)}
            run.finish(counts, {"kind": opened.index.kind, "recall": opened.recall})
            bench.store.publish(run.run_id, guards=bench.settings.publish)
    change = opened.change
    if change is not None:
        counts |= {"added": change.added, "removed": change.removed, "changed": change.changed}
    return Report(
        "index",
        run_id=run.run_id,
        counts=counts,
        artifacts={"index": bench.indexes},
        tables=_facts_of(opened),
    )


def _facts_of(opened: saved.Opened) -> list[Table]:
    """What the index is, how much it finds and how fast, beside exact search."""
    measured = opened.measured
    if measured is None:  # of an empty catalogue
        return [Table("index", ("kind", "products", "recall", "done"), [(opened.index.kind, 0, 1.0, opened.said)])]
    columns = ("kind", "products", "recall", "median_ms", "p95_ms", "queries_per_s", "done")
    speed = measured.speed
    row = (opened.index.kind, len(opened.index), opened.recall, *_figures(speed), opened.said)
    found = [(f"recall@10, {name}", value) for name, value in measured.recall.items()]
    names = ("exact_median_ms", "exact_p95_ms", "exact_queries_per_s")
    beside = [*found, *zip(names, _figures(measured.exact), strict=True)]
    return [Table("index", columns, [row]), Table("measured", ("figure", "value"), beside)]


def _figures(speed: yardstick.Speed) -> tuple[float, float, float]:
    return speed.median_ms, speed.p95_ms, speed.per_second


def vectors_of(bench: Bench, frame: Any = None) -> FloatArray:
    """Vectors (n, d) of the products of a frame, stored or not; of the whole store when there is no frame."""
    from recsys.data.dataset import catalogue_of
    from recsys.data.input_sources import frame_of

    catalogue = bench.dataset.catalogue if frame is None else catalogue_of(frame_of(frame))
    return bench.model.encode(catalogue, np.arange(len(catalogue)))
