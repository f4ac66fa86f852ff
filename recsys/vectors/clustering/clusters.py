"""Groups of similar products with labels, exemplars and parents, whose ids stay when they are grouped again.

In: vectors, the catalogue for labels, the groups of last time. Out: each product's group, and all there is to tell
about each group.
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
from recsys.vectors.clustering import hierarchical as tree
from recsys.vectors.clustering.id_matching import NONE, PreviousClusters, cluster_changes, match_cluster_ids
from recsys.vectors.clustering.silhouette import ClusteringTrial
from recsys.vectors.embeddings.table import EmbeddingTable

CLUSTER_ID: Final = "cluster_id"
DISTANCE: Final = "distance"
NO_GROUP: Final = "no group"
"""Label of the row -1, under which consumers find the products that HDBSCAN leaves in no group."""


@dataclass(frozen=True)
class Clustering:
    """Groups of n products.

    Attributes:
        cluster_id: (n,) int64; -1 = in no group.
        distance: (n,) float32, 1 - cosine to the middle of the group; NaN for products in none.
        frame: one row a group: cluster_id, label, size, terms (JSON list, the most telling first).
        groups: the same for reading: cluster_id, label, size, terms (list), exemplars (list of product ids, nearest
            the middle first), parent, parent_label.
        changes: which groups are new or retired, see `continuity.changes`.
        taken: the grouping among `trials` that was taken; None where there was nothing to group.
        trials: groupings that were judged.
        free: the lowest id no group ever had.
        warnings: what to tell.
    """

    cluster_id: IntArray = field(repr=False)
    distance: FloatArray = field(repr=False)
    frame: pl.DataFrame
    groups: pl.DataFrame = field(repr=False)
    changes: pl.DataFrame = field(repr=False)
    taken: ClusteringTrial | None = None
    trials: tuple[ClusteringTrial, ...] = field(default=(), repr=False)
    free: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Groups, that of products in none not counted."""
        return int((self.frame[CLUSTER_ID] >= 0).sum())

    def members(self, ids: IdMap) -> pl.DataFrame:
        """Frame (product_id, cluster_id, distance)."""
        return pl.DataFrame(
            {
                schema.PRODUCT_ID: pl.Series(list(ids.texts), dtype=pl.String),
                CLUSTER_ID: self.cluster_id,
                DISTANCE: self.distance,
            }
        )

    def trial_table(self) -> pl.DataFrame:
        """Frame (clusters, silhouette, products in a group, kept, taken), one row a grouping, by number of groups."""
        rows = [
            (one.number, one.silhouette, int((one.group >= 0).sum()), one.kept, one is self.taken)
            for one in self.trials
        ]
        named = {
            "clusters": pl.Int64,
            "silhouette": pl.Float64,
            "grouped": pl.Int64,
            "kept": pl.Boolean,
            "taken": pl.Boolean,
        }
        return pl.DataFrame(rows, schema=named, orient="row").sort("clusters", "kept")


def method_key(settings: ClusterSettings) -> str:
    """What names the way of grouping: groups made another way are no reason to keep them."""
    return f"hdbscan {settings.smallest}" if settings.method == "hdbscan" else settings.method


def cluster_products(
    table: EmbeddingTable,
    catalogue: Catalogue,
    settings: ClusterSettings,
    *,
    seed: int,
    previous: PreviousClusters | None = None,
) -> Clustering:
    """Group products, name the groups, join them into parents; a group keeps the id it had.

    With groups of last time, made the same way, a new grouping must be clearly better to take their place. Either way
    a group has the id of the one it shares most products with, also when the way has changed.

    Args:
        table: unit vectors, in the catalogue's row order.
        catalogue: words, attributes and variants for labels and exemplars.
        settings: method, number of groups, words in a label, exemplars.
        seed: of every draw.
        previous: the groups of last time.

    Raises:
        DataContractError: table and catalogue do not hold the same products.
    """
    if table.ids.texts != catalogue.ids.texts:
        raise DataContractError("embeddings and catalogue hold other products; run 'recsys embed'")
    last = None if previous is None else previous.rows(table.ids)
    free = 0 if previous is None else previous.free
    told = {} if previous is None else previous.labels
    if not len(table):
        none, frame = np.zeros(0, np.int64), _labelled(catalogue, np.zeros(0, np.int64), 1)
        groups = _groups(frame, {}, parents={}, parent_labels={})
        return Clustering(
            none, np.zeros(0, np.float32), frame, groups, cluster_changes(none, {}, last, told), free=free
        )
    vectors = np.ascontiguousarray(table.vectors)
    same = previous is not None and (previous.method or "kmeans") == method_key(settings)
    found = methods.run_clustering(vectors, settings, seed=seed, last=last if same else None)
    ids = match_cluster_ids(found.taken.group, last, free=free)
    distance = kmeans.distances(vectors, ids)
    frame = _labelled(catalogue, ids, settings.terms)
    picked = exemplars.select_exemplars(catalogue, vectors, group=ids, distance=distance, count=settings.exemplars)
    parents = tree.parent_clusters(vectors, ids)
    above = np.array([parents.get(one, NONE) for one in ids.tolist()], np.int64)
    own = _names(frame)
    groups = _groups(
        frame,
        {one: catalogue.ids.ids(rows) for one, rows in picked.items()},
        parents=parents,
        parent_labels=_names(_labelled(catalogue, above, settings.terms)) if (above != ids).any() else own,
    )
    return Clustering(
        ids,
        distance,
        frame,
        groups,
        cluster_changes(ids, own, last, told),
        found.taken,
        found.trials,
        max(free, int(ids.max()) + 1),
        found.warnings,
    )


def _labelled(catalogue: Catalogue, group: IntArray, terms: int) -> pl.DataFrame:
    frame = labels.label_clusters(catalogue, group, terms)
    none = pl.col(CLUSTER_ID) == NONE
    return frame.with_columns(
        pl.when(none).then(pl.lit(NO_GROUP)).otherwise(pl.col("label")).alias("label"),
        pl.when(none).then(pl.lit("[]")).otherwise(pl.col("terms")).alias("terms"),
    )


def _names(frame: pl.DataFrame) -> dict[int, str]:
    return dict(zip(frame[CLUSTER_ID].to_list(), frame["label"].to_list(), strict=True))


def _groups(
    frame: pl.DataFrame,
    exemplars: Mapping[int, list[str]],
    *,
    parents: Mapping[int, int],
    parent_labels: Mapping[int, str],
) -> pl.DataFrame:
    ids = frame[CLUSTER_ID].to_list()
    above = [parents.get(one, NONE) for one in ids]
    return frame.with_columns(
        pl.Series("terms", [json.loads(terms) for terms in frame["terms"]], dtype=pl.List(pl.String)),
        pl.Series("exemplars", [exemplars.get(one, []) for one in ids], dtype=pl.List(pl.String)),
        pl.Series("parent", above, dtype=pl.Int64),
        pl.Series("parent_label", [parent_labels.get(one, NO_GROUP) for one in above], dtype=pl.String),
    )
