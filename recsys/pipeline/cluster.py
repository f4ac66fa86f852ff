"""Groups of the products: made anew or kept, labelled, drawn on a map, published.

In: an open project. Out: a Report; groups in the store, the map and the groups among the artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.db.engine import read
from recsys.errors import ModelFolderError
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.run_ledger import Manifest
from recsys.types import FloatArray
from recsys.vectors.clustering import clusters
from recsys.vectors.clustering import projection as plane
from recsys.vectors.clustering.files import ClusterFiles, map_frame
from recsys.vectors.clustering.id_matching import PreviousClusters
from recsys.vectors.embeddings.table import EmbeddingTable

PLACEMENT = "clusters"
"""Placement of the runs that hold groups."""


def cluster_products(project: Project) -> CommandResult:
    """Group the products, keep the ids of last time, label the groups, draw the map, publish.

    Raises:
        UsageError: [cluster] map is umap and umap-learn is not installed.
    """
    settings = project.settings
    plane.check_method(settings.cluster.map)
    table = update_embeddings(project).table
    previous = _last(project)
    with project.progress.stage("cluster"):
        made = clusters.cluster_products(
            table, project.dataset.catalogue, settings.cluster, seed=settings.training.seed, previous=previous
        )
    with project.progress.stage("map"):
        places = _places(project, table)
    manifest = Manifest(table.model_id, project.dataset.fingerprint, settings.cluster.model_dump_json())
    counts, metrics = _figures(made, settings.cluster.method)
    with project.store.begin_run("cluster", manifest, placement=PLACEMENT) as run:
        run.write_table("clusters_all", made.frame)
        run.write_table("cluster_members_all", made.members(table.ids))
        run.finish(counts, {**metrics, "asked": clusters.method_key(settings.cluster), "free": made.free})
        project.store.publish(run.run_id, guards=settings.publish)
    facts = {"run_id": run.run_id, "method": settings.cluster.method, "map": settings.cluster.map}
    drawn = None if places is None else map_frame(table.ids, places, made.cluster_id)
    ClusterFiles(made.groups, drawn, facts).save(project.clusters_folder)
    return CommandResult(
        "cluster",
        run_id=run.run_id,
        counts=counts,
        warnings=list(made.warnings),
        artifacts={"clusters": project.clusters_folder},
        tables=_tables(made, project.dataset.catalogue),
    )


def _last(project: Project) -> PreviousClusters | None:
    """The published groups."""
    engine = project.store.engine
    members = read(engine, "SELECT product_id, cluster_id, run_id FROM product_clusters")
    if not members.height:
        return None
    told = read(engine, "SELECT cluster_id, label FROM cluster_labels WHERE cluster_id >= 0")
    noted: Mapping[str, Any] = project.store.run(str(members["run_id"][0]))["metrics"] or {}
    return PreviousClusters(
        members.select("product_id", "cluster_id"),
        dict(zip(told["cluster_id"].to_list(), told["label"].to_list(), strict=True)),
        str(noted.get("asked", "")),
        int(noted.get("free", 0)),
    )


def _places(project: Project, table: EmbeddingTable) -> FloatArray | None:
    """Where each product stands on the map, from where it stood last time: (n, 2), or None where none is asked for."""
    kind = project.settings.cluster.map
    if kind == "none":
        return None
    try:
        last = ClusterFiles.load(project.clusters_folder)
    except (FileNotFoundError, ModelFolderError):  # a cache: without it the map is drawn afresh
        last = None
    before = last.positions(table.ids) if last is not None and last.facts.get("map") == kind else None
    vectors = np.ascontiguousarray(table.vectors)
    return plane.project_2d(vectors, kind, seed=project.settings.training.seed, last=before)


def _figures(made: clusters.Clustering, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Counts for people and scripts, metrics for the run ledger."""
    counts: dict[str, Any] = {
        "products": len(made.cluster_id),
        "clusters": made.number,
        "in_no_group": int((made.cluster_id < 0).sum()),
        "new": int((made.changes["change"] == "new").sum()),
        "retired": int((made.changes["change"] == "retired").sum()),
    }
    grouped = made.distance[made.cluster_id >= 0]
    metrics = {
        "method": method,
        "mean_distance": float(grouped.mean()) if len(grouped) else None,
        "silhouette": None if made.taken is None else made.taken.silhouette,
        "tried": made.trial_table().to_dicts(),
        "changes": made.changes.to_dicts(),
    }
    return counts, metrics


def _tables(made: clusters.Clustering, catalogue: Catalogue) -> list[Table]:
    """The groups, as a tree for people; what changed; the numbers of groups that were tried."""
    groups = made.groups.with_columns(pl.col("size").sum().over("parent").alias("parent_size"))
    order = ["parent_size", "parent", "size", "cluster_id"]
    groups = groups.sort(order, descending=[True, False, True, False])
    flat = groups.select("cluster_id", "size", "label", "parent", "parent_label")
    tables = [
        Table("groups", tuple(flat.columns), flat.rows(), display=_tree(groups, catalogue)),
        Table.from_frame("new and retired groups", made.changes),
    ]
    tried = made.trial_table()
    return [*tables, Table.from_frame("numbers of groups tried", tried)] if tried.height > 1 else tables


def _tree(groups: pl.DataFrame, catalogue: Catalogue) -> Table:
    """Parents with their groups below them; a parent of one group is that group."""
    titles = catalogue.frame[schema.TITLE].fill_null("") if schema.TITLE in catalogue.frame.columns else None
    rows: list[tuple[Any, ...]] = []
    for _, part in groups.group_by("parent_size", "parent", maintain_order=True):
        if part.height > 1:
            rows.append((part["parent_label"][0], part["parent_size"][0], None, ""))
        for one in part.iter_rows(named=True):
            example = one["exemplars"][0] if one["exemplars"] else ""
            if example and titles is not None:
                example = titles[int(catalogue.ids.rows([example])[0])] or example
            indent = "  " if part.height > 1 else ""
            rows.append((f"{indent}{one['label']}", one["size"], one["cluster_id"], example))
    return Table("groups", ("group", "products", "id", "for example"), rows)
