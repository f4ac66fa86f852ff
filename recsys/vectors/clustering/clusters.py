"""Cluster products with labels, exemplars and parents; cluster ids are stable across runs.

In: vectors, the catalogue for labels, the previous clusters. Out: each product's cluster, and the description of each
cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from recsys.config import ClusterSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError
from recsys.types import FloatArray, IntArray
from recsys.vectors.clustering import exemplars, kmeans, labels, methods
from recsys.vectors.clustering.hierarchical import parent_clusters
from recsys.vectors.clustering.id_matching import NONE, PreviousClusters, cluster_changes, match_cluster_ids
from recsys.vectors.clustering.silhouette import ClusteringTrial
from recsys.vectors.embeddings.table import EmbeddingTable

CLUSTER_ID: Final = "cluster_id"
"""Column of the cluster id."""
DISTANCE: Final = "distance"
"""Column of the distance to the centroid."""
NO_CLUSTER_LABEL: Final = "no group"
"""Label of the row -1, under which consumers find the products that HDBSCAN leaves unclustered."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of n products.

    Attributes:
        cluster_id: (n,) int64; -1 = in no cluster.
        distance: (n,) float32, 1 - cosine to the centroid of the cluster; NaN for products in none.
        frame: one row per cluster: cluster_id, label, size, terms (JSON list, the most distinctive first).
        groups: the same for reading: cluster_id, label, size, terms (list), exemplars (list of product ids, nearest to
            the centroid first), parent, parent_label.
        changes: new and retired clusters, see `id_matching.cluster_changes`.
        selected: the selected one of `trials`; None where there was nothing to cluster.
        trials: clusterings that were scored.
        next_id: the lowest id never used by a cluster.
        warnings: messages for the user.
    """

    cluster_id: IntArray = field(repr=False)
    distance: FloatArray = field(repr=False)
    frame: pl.DataFrame
    groups: pl.DataFrame = field(repr=False)
    changes: pl.DataFrame = field(repr=False)
    selected: ClusteringTrial | None = None
    trials: tuple[ClusteringTrial, ...] = field(default=(), repr=False)
    next_id: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def n_clusters(self) -> int:
        """Number of clusters, without the row of unclustered products."""
        return int((self.frame[CLUSTER_ID] >= 0).sum())

    def members(self, ids: IdMap) -> pl.DataFrame:
        """Return the frame (product_id, cluster_id, distance)."""
        return pl.DataFrame(
            {
                schema.PRODUCT_ID: pl.Series(list(ids.texts), dtype=pl.String),
                CLUSTER_ID: self.cluster_id,
                DISTANCE: self.distance,
            }
        )

    def trial_table(self) -> pl.DataFrame:
        """Return one row per trial (clusters, silhouette, grouped, kept, taken), by number of clusters.

        `grouped` counts the products in a cluster.
        """
        rows = [
            (
                trial.n_clusters,
                trial.silhouette,
                int((trial.labels >= 0).sum()),
                trial.is_previous,
                trial is self.selected,
            )
            for trial in self.trials
        ]
        columns = {
            "clusters": pl.Int64,
            "silhouette": pl.Float64,
            "grouped": pl.Int64,
            "kept": pl.Boolean,
            "taken": pl.Boolean,
        }
        return pl.DataFrame(rows, schema=columns, orient="row").sort("clusters", "kept")


def method_key(settings: ClusterSettings) -> str:
    """Return the name of the method; previous clusters are kept only if it is the same."""
    return f"hdbscan {settings.smallest}" if settings.method == "hdbscan" else settings.method


def cluster_products(
    table: EmbeddingTable,
    catalogue: Catalogue,
    settings: ClusterSettings,
    *,
    seed: int,
    previous: PreviousClusters | None = None,
) -> Clustering:
    """Cluster products, label the clusters, and join them into parents; clusters keep their ids.

    With previous clusters of the same method, a new clustering must be clearly better to replace them. In any case a
    cluster gets the id of the previous one it shares most products with, also when the method changed.

    Args:
        table: unit vectors, in the catalogue's row order.
        catalogue: words, attributes and variants for labels and exemplars.
        settings: method, number of clusters, words in a label, exemplars.
        seed: random seed.
        previous: clusters of the previous run.

    Raises:
        DataContractError: table and catalogue do not hold the same products.
    """
    if table.ids.texts != catalogue.ids.texts:
        raise DataContractError("embeddings and catalogue hold different products; run 'recsys embed'")
    last = None if previous is None else previous.rows(table.ids)
    free = 0 if previous is None else previous.next_id
    previous_labels = {} if previous is None else previous.labels
    if not len(table):
        empty, frame = np.zeros(0, np.int64), _label_frame(catalogue, np.zeros(0, np.int64), 1)
        groups = _describe_clusters(frame, {}, parents={}, parent_labels={})
        return Clustering(
            empty,
            np.zeros(0, np.float32),
            frame,
            groups,
            cluster_changes(empty, {}, last, previous_labels),
            next_id=free,
        )
    vectors = np.ascontiguousarray(table.vectors)
    same_method = previous is not None and (previous.method or "kmeans") == method_key(settings)
    result = methods.run_clustering(vectors, settings, seed=seed, previous=last if same_method else None)
    ids = match_cluster_ids(result.selected.labels, last, next_id=free)
    distance = kmeans.centroid_distances(vectors, ids)
    frame = _label_frame(catalogue, ids, settings.terms)
    exemplar_rows = exemplars.select_exemplars(
        catalogue, vectors, cluster_ids=ids, distance=distance, count=settings.exemplars
    )
    parents = parent_clusters(vectors, ids)
    parent_ids = np.array([parents.get(cluster, NONE) for cluster in ids.tolist()], np.int64)
    cluster_labels = _labels_by_id(frame)
    groups = _describe_clusters(
        frame,
        {cluster: catalogue.ids.ids(rows) for cluster, rows in exemplar_rows.items()},
        parents=parents,
        parent_labels=_labels_by_id(_label_frame(catalogue, parent_ids, settings.terms))
        if (parent_ids != ids).any()
        else cluster_labels,
    )
    return Clustering(
        ids,
        distance,
        frame,
        groups,
        cluster_changes(ids, cluster_labels, last, previous_labels),
        result.selected,
        result.trials,
        max(free, int(ids.max()) + 1),
        result.warnings,
    )


def _label_frame(catalogue: Catalogue, group: IntArray, terms: int) -> pl.DataFrame:
    """Label clusters; the row of unclustered products gets a fixed label and no terms."""
    frame = labels.label_clusters(catalogue, group, terms)
    is_none = pl.col(CLUSTER_ID) == NONE
    return frame.with_columns(
        pl.when(is_none).then(pl.lit(NO_CLUSTER_LABEL)).otherwise(pl.col("label")).alias("label"),
        pl.when(is_none).then(pl.lit("[]")).otherwise(pl.col("terms")).alias("terms"),
    )


def _labels_by_id(frame: pl.DataFrame) -> dict[int, str]:
    """Return the label of each cluster id."""
    return dict(zip(frame[CLUSTER_ID].to_list(), frame["label"].to_list(), strict=True))


def _describe_clusters(
    frame: pl.DataFrame,
    exemplars: Mapping[int, list[str]],
    *,
    parents: Mapping[int, int],
    parent_labels: Mapping[int, str],
) -> pl.DataFrame:
    """Add exemplars and parents to the frame of labels."""
    ids = frame[CLUSTER_ID].to_list()
    parent_ids = [parents.get(cluster, NONE) for cluster in ids]
    return frame.with_columns(
        pl.Series("terms", [json.loads(terms) for terms in frame["terms"]], dtype=pl.List(pl.String)),
        pl.Series("exemplars", [exemplars.get(cluster, []) for cluster in ids], dtype=pl.List(pl.String)),
        pl.Series("parent", parent_ids, dtype=pl.Int64),
        pl.Series(
            "parent_label", [parent_labels.get(cluster, NO_CLUSTER_LABEL) for cluster in parent_ids], dtype=pl.String
        ),
    )
