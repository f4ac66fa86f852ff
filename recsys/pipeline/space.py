"""The space of products: vectors brought up to date, groups, the index, and each product's neighbours.

In: a Bench. Out: Reports; vectors, groups and neighbours in the store, the table and the index among the artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recsys.db.engine import read
from recsys.errors import NothingNewError
from recsys.pipeline.bench import Bench
from recsys.pipeline.report import Report, Table
from recsys.store.runs import Manifest
from recsys.vectors import build, clusters, index, neighbours, variants

if TYPE_CHECKING:
    from recsys.data.catalogue import Catalogue

CLUSTERS, SIMILAR = "clusters", "similar"
"""Placements of the runs that hold groups and neighbours."""

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


def cluster(bench: Bench) -> Report:
    """Group the products, keep the ids of last time, label the groups, publish them."""
    settings = bench.settings
    table = embedded(bench).table
    with bench.watch.stage("cluster"):
        last = read(bench.store.engine, "SELECT product_id, cluster_id FROM product_clusters")
        made = clusters.cluster(
            table,
            bench.dataset.catalogue,
            settings.cluster,
            seed=settings.training.seed,
            previous=last if last.height else None,
        )
        manifest = Manifest(table.model_id, bench.dataset.fingerprint, settings.cluster.model_dump_json())
        with bench.store.begin("cluster", manifest, placement=CLUSTERS) as run:
            run.write_table("clusters_all", made.frame)
            run.write_table("cluster_members_all", made.members(table.ids))
            counts = {"products": len(table), "clusters": made.frame.height}
            run.finish(counts, {"mean_distance": float(np.mean(made.distance)) if len(table) else None})
            run.publish(settings.publish)
    frame = made.frame.sort("size", descending=True).select("cluster_id", "size", "label")
    return Report("cluster", run_id=run.run_id, counts=counts, tables=[Table.of("groups", frame)])


def indexed(bench: Bench, *, fresh: bool = False) -> index.Opened:
    """The index over the table, loaded when it is the one of these vectors, else built."""
    settings = bench.settings
    return index.open_index(
        bench.table.vectors, settings.index.kind, folder=bench.indexes, seed=settings.training.seed, fresh=fresh
    )


def build_index(bench: Bench) -> Report:
    """Build the index, measure its recall, write each product's neighbours for consumers."""
    table = embedded(bench).table
    with bench.watch.stage("index"):
        opened = indexed(bench, fresh=True)
    with bench.watch.stage("neighbours") as progress:
        allow = np.ascontiguousarray(bench.dataset.catalogue.sellable)
        kin = None if bench.settings.search.variants else variants.families(bench.dataset.catalogue)
        frame = neighbours.neighbours(table, opened.index, _NEIGHBOURS, allow=allow, kin=kin, progress=progress)
        manifest = Manifest(table.model_id, bench.dataset.fingerprint, bench.settings.index.model_dump_json())
        with bench.store.begin("similar", manifest, placement=SIMILAR) as run:
            run.write_table("similar_products_all", frame)
            counts = {"products": len(table), "neighbours": frame.height, "recall": round(opened.recall, 4)}
            run.finish(counts, {"kind": opened.index.kind, "recall": opened.recall})
            run.publish(bench.settings.publish)
    row = (opened.index.kind, len(table), opened.recall)
    return Report(
        "index",
        run_id=run.run_id,
        counts=counts,
        artifacts={"index": bench.indexes},
        tables=[Table("index", ("kind", "products", "recall"), [row])],
    )


def vectors_of(bench: Bench, frame: Any = None) -> npt.NDArray[np.float32]:
    """Vectors (n, d) of the products of a frame, stored or not; of the whole store when there is no frame."""
    from recsys.data.dataset import catalogue_of
    from recsys.data.sources import frame_of

    catalogue = bench.dataset.catalogue if frame is None else catalogue_of(frame_of(frame))
    return bench.model.encode(catalogue, np.arange(len(catalogue)))
