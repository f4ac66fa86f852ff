"""The `cluster` command: clusters the products, matches cluster ids, labels the clusters, draws a map, publishes.

In: an open project. Out: a result; clusters in the store, the map and the clusters among the artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.db.engine import read_frame
from recsys.errors import ModelFolderError
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.store.run_ledger import RunManifest
from recsys.types import FloatArray
from recsys.vectors.clustering import clusters
from recsys.vectors.clustering.files import ClusterFiles, map_frame
from recsys.vectors.clustering.id_matching import PreviousClusters
from recsys.vectors.clustering.projection import check_method, project_2d
from recsys.vectors.embeddings.table import EmbeddingTable

PLACEMENT = "clusters"
"""Placement of the runs that hold clusters."""


def cluster_products(project: Project) -> CommandResult:
    """Cluster the products, keep the ids of the previous clusters, label, draw the map, publish.

    Raises:
        UsageError: [cluster] map is umap and umap-learn is not installed.
    """
    settings = project.settings
    check_method(settings.cluster.map)
    table = update_embeddings(project).table
    previous = _load_published(project)
    with project.progress.stage("cluster"):
        clustering = clusters.cluster_products(
            table, project.dataset.catalogue, settings.cluster, seed=settings.training.seed, previous=previous
        )
    with project.progress.stage("map"):
        positions = _draw_map(project, table)
    manifest = RunManifest(table.model_id, project.dataset.fingerprint, settings.cluster.model_dump_json())
    counts, metrics = _counts_and_metrics(clustering, settings.cluster.method)
    with project.store.begin_run("cluster", manifest, placement=PLACEMENT) as run:
        run.write_table("clusters_all", clustering.frame)
        run.write_table("cluster_members_all", clustering.members(table.ids))
        run.finish(counts, {**metrics, "asked": clusters.method_key(settings.cluster), "free": clustering.next_id})
        project.store.publish(run.run_id, guards=settings.publish)
    facts = {"run_id": run.run_id, "method": settings.cluster.method, "map": settings.cluster.map}
    map_table = None if positions is None else map_frame(table.ids, positions, clustering.cluster_id)
    ClusterFiles(clustering.groups, map_table, facts).save(project.clusters_folder)
    return CommandResult(
        "cluster",
        run_id=run.run_id,
        counts=counts,
        warnings=list(clustering.warnings),
        artifacts={"clusters": project.clusters_folder},
        tables=_tables(clustering, project.dataset.catalogue),
    )


def _load_published(project: Project) -> PreviousClusters | None:
    """Load the published clusters; None if there are none."""
    engine = project.store.engine
    members = read_frame(engine, "SELECT product_id, cluster_id, run_id FROM product_clusters")
    if not members.height:
        return None
    labels = read_frame(engine, "SELECT cluster_id, label FROM cluster_labels WHERE cluster_id >= 0")
    metrics: Mapping[str, Any] = project.store.run(str(members["run_id"][0]))["metrics"] or {}
    return PreviousClusters(
        members.select("product_id", "cluster_id"),
        dict(zip(labels["cluster_id"].to_list(), labels["label"].to_list(), strict=True)),
        str(metrics.get("asked", "")),
        int(metrics.get("free", 0)),
    )


def _draw_map(project: Project, table: EmbeddingTable) -> FloatArray | None:
    """Compute map positions, starting from the previous ones: (n, 2), or None if [cluster] map is none."""
    method = project.settings.cluster.map
    if method == "none":
        return None
    try:
        previous = ClusterFiles.load(project.clusters_folder)
    except (FileNotFoundError, ModelFolderError):  # only a cache: without it the map is drawn from scratch
        previous = None
    start = previous.positions(table.ids) if previous is not None and previous.metadata.get("map") == method else None
    vectors = np.ascontiguousarray(table.vectors)
    return project_2d(vectors, method, seed=project.settings.training.seed, previous=start)


def _counts_and_metrics(clustering: clusters.Clustering, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return counts for the result and metrics for the run ledger."""
    counts: dict[str, Any] = {
        "products": len(clustering.cluster_id),
        "clusters": clustering.n_clusters,
        "in_no_group": int((clustering.cluster_id < 0).sum()),
        "new": int((clustering.changes["change"] == "new").sum()),
        "retired": int((clustering.changes["change"] == "retired").sum()),
    }
    distances = clustering.distance[clustering.cluster_id >= 0]
    metrics = {
        "method": method,
        "mean_distance": float(distances.mean()) if len(distances) else None,
        "silhouette": None if clustering.selected is None else clustering.selected.silhouette,
        "tried": clustering.trial_table().to_dicts(),
        "changes": clustering.changes.to_dicts(),
    }
    return counts, metrics


def _tables(clustering: clusters.Clustering, catalogue: Catalogue) -> list[Table]:
    """Tables of the clusters (a tree for people), of the changes, and of the cluster counts that were tried."""
    groups = clustering.groups.with_columns(pl.col("size").sum().over("parent").alias("parent_size"))
    order = ["parent_size", "parent", "size", "cluster_id"]
    groups = groups.sort(order, descending=[True, False, True, False])
    flat = groups.select("cluster_id", "size", "label", "parent", "parent_label")
    tables = [
        Table("groups", tuple(flat.columns), flat.rows(), display=_tree(groups, catalogue)),
        Table.from_frame("new and retired groups", clustering.changes),
    ]
    trials = clustering.trial_table()
    return [*tables, Table.from_frame("numbers of groups tried", trials)] if trials.height > 1 else tables


def _tree(groups: pl.DataFrame, catalogue: Catalogue) -> Table:
    """Parent clusters with their clusters below them; a parent of one cluster is shown as that cluster."""
    titles = catalogue.frame[schema.TITLE].fill_null("") if schema.TITLE in catalogue.frame.columns else None
    rows: list[tuple[Any, ...]] = []
    for _, children in groups.group_by("parent_size", "parent", maintain_order=True):
        if children.height > 1:
            rows.append((children["parent_label"][0], children["parent_size"][0], None, ""))
        for row in children.iter_rows(named=True):
            example = row["exemplars"][0] if row["exemplars"] else ""
            if example and titles is not None:
                example = titles[int(catalogue.ids.rows([example])[0])] or example
            indent = "  " if children.height > 1 else ""
            rows.append((f"{indent}{row['label']}", row["size"], row["cluster_id"], example))
    return Table("groups", ("group", "products", "id", "for example"), rows)
