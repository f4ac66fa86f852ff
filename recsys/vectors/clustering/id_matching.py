"""Match clusters of a run to those of the previous run, and list what changed.

In: the cluster of each product then and now. Out: current clusters under stable ids; a table of changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.id_map import IdMap
from recsys.types import FloatArray, IntArray

NONE: Final = -1
"""Id of products in no cluster."""
UNKNOWN: Final = -2
"""Marks products that did not exist in the previous run."""

_MIN_OVERLAP: Final = 0.2
"""Jaccard overlap from which a cluster counts as a previous one."""

_MIN_SHARE: Final = 0.2
"""Share of a cluster's products from which their origin or destination is reported."""

CHANGES: Final = {
    "change": pl.String,
    "cluster_id": pl.Int64,
    "label": pl.String,
    "size": pl.Int64,
    "other": pl.String,
}
"""Schema of the table of changes."""


@dataclass(frozen=True)
class PreviousClusters:
    """Clusters of the previous run.

    Attributes:
        members: frame (product_id, cluster_id).
        labels: cluster id -> label.
        method: method that produced them; empty when unknown.
        next_id: the lowest id never used, if known: ids of retired clusters are not reused.
    """

    members: pl.DataFrame
    labels: Mapping[int, str] = field(default_factory=dict)
    method: str = ""
    next_id: int = 0

    def rows(self, ids: IdMap) -> IntArray:
        """Return each product's previous cluster: (n,) int64, -1 = in none, -2 = unknown."""
        rows = ids.rows(self.members[schema.PRODUCT_ID].to_list())
        out = np.full(len(ids), UNKNOWN, np.int64)
        out[rows[rows >= 0]] = self.members["cluster_id"].cast(pl.Int64).to_numpy()[rows >= 0]
        return out


def match_cluster_ids(cluster_labels: IntArray, previous: IntArray | None, *, next_id: int = 0) -> IntArray:
    """Return stable ids: those of the previous clusters with the most overlap; new ids by size.

    Args:
        cluster_labels: (n,) int64 labels, 0.. without gaps, -1 = in none.
        previous: (n,) int64 previous ids, below 0 = in none or unknown; None = there was no previous run.
        next_id: lowest id never used.

    Returns:
        (n,) int64; -1 stays -1. The largest new cluster gets the lowest free id.
    """
    n_clusters = int(cluster_labels.max(initial=-1)) + 1
    sizes = np.bincount(cluster_labels[cluster_labels >= 0], minlength=n_clusters)
    ids = np.full(n_clusters, -1, np.int64)
    if previous is not None:
        previous_ids, labels, overlap = _match_by_overlap(cluster_labels, previous, n_clusters)
        ids[labels[overlap >= _MIN_OVERLAP]] = previous_ids[overlap >= _MIN_OVERLAP]
        next_id = max(next_id, int(previous.max(initial=-1)) + 1)
    unmatched = np.flatnonzero(ids < 0)
    order = unmatched[np.lexsort((unmatched, -sizes[unmatched]))]
    ids[order] = next_id + np.arange(len(order))
    return (
        np.where(cluster_labels >= 0, ids[cluster_labels], NONE)
        if n_clusters
        else np.full(len(cluster_labels), NONE, np.int64)
    )


def _match_by_overlap(
    group: IntArray, previous_labels: IntArray, n_clusters: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Pair previous and current clusters for the highest sum of Jaccard overlaps.

    Returns previous ids, current labels, overlaps. Products that exist in only one of the two runs are not counted.
    """
    from scipy.optimize import linear_sum_assignment

    is_known = previous_labels != UNKNOWN
    ids = np.unique(previous_labels[previous_labels >= 0])
    shared = np.zeros((len(ids), n_clusters), np.float64)
    in_both = is_known & (previous_labels >= 0) & (group >= 0)
    np.add.at(shared, (np.searchsorted(ids, previous_labels[in_both]), group[in_both]), 1)
    previous_sizes = np.bincount(np.searchsorted(ids, previous_labels[previous_labels >= 0]), minlength=len(ids))
    current_sizes = np.bincount(group[is_known & (group >= 0)], minlength=n_clusters)
    jaccard = (shared / np.maximum(previous_sizes[:, None] + current_sizes[None, :] - shared, 1)).astype(np.float32)
    previous, current = linear_sum_assignment(jaccard, maximize=True)
    return ids[previous], current.astype(np.int64), jaccard[previous, current]


def cluster_changes(
    current: IntArray, labels: Mapping[int, str], previous: IntArray | None, previous_labels: Mapping[int, str]
) -> pl.DataFrame:
    """Return the retired and the new clusters since the previous run.

    Args:
        current: (n,) current stable ids.
        labels: of the current clusters.
        previous: (n,) previous ids; None = there was no previous run, and nothing changed.
        previous_labels: labels of the previous clusters.

    Returns:
        Frame (change, cluster_id, label, size, other), first the retired clusters, then the new ones, by id. `size` of
        a retired cluster counts its remaining products; `other` lists the clusters they moved to, or for a new cluster
        the ones its products came from, each with a fifth of them or more.
    """
    if previous is None:
        return pl.DataFrame(schema=CHANGES)
    retired = sorted((set(previous_labels) | set(previous[previous >= 0].tolist())) - set(current.tolist()) - {NONE})
    created = sorted(set(current[current >= 0].tolist()) - set(previous.tolist()))
    rows = [
        (
            "retired",
            cluster,
            previous_labels.get(cluster, f"group {cluster}"),
            int((previous == cluster).sum()),
            _destinations(current[previous == cluster], labels),
        )
        for cluster in retired
    ]
    rows += [
        (
            "new",
            cluster,
            labels[cluster],
            int((current == cluster).sum()),
            _destinations(previous[current == cluster], previous_labels, unknown_label="new products"),
        )
        for cluster in created
    ]
    return pl.DataFrame(rows, schema=CHANGES, orient="row")


def _destinations(clusters: IntArray, labels: Mapping[int, str], *, unknown_label: str = "") -> str:
    """Describe the clusters with the largest shares of some products, for example "60% 3 red dresses"."""
    ids, counts = np.unique(clusters, return_counts=True)
    order = np.lexsort((ids, -counts))
    special = {UNKNOWN: unknown_label, NONE: "no group"}
    parts = []
    for i in order:
        cluster, share = int(ids[i]), counts[i] / len(clusters)
        if share >= _MIN_SHARE:
            parts.append(f"{share:.0%} {special.get(cluster) or f'{cluster} ' + labels.get(cluster, '')}")
    return ", ".join(parts)
