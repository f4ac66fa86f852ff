"""Groups of similar products, whose ids stay when the products are grouped again.

In: vectors, the catalogue for labels, the groups of last time. Out: each product's group and each group's label.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from recsys.config import ClusterSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.ids import IdMap
from recsys.errors import DataContractError
from recsys.vectors import labels
from recsys.vectors.exact import Rows, Vectors
from recsys.vectors.table import EmbeddingTable

CLUSTER_ID: Final = "cluster_id"
DISTANCE: Final = "distance"

_SAME: Final = 0.2
"""Jaccard overlap from which a group counts as the one of last time."""

_KEEP: Final = 0.25
"""The automatic number of groups stays as it was while it is off by less than this share."""

_ITERATIONS: Final = 25
_STARTS: Final = 3
_BLOCK: Final = 65_536


@dataclass(frozen=True)
class Clusters:
    """Groups of n products.

    Attributes:
        cluster_id: (n,) int64.
        distance: (n,) float32, 1 - cosine to the middle of the group.
        frame: one row a group: cluster_id, label, size, terms (JSON list, the most telling first).
    """

    cluster_id: Rows = field(repr=False)
    distance: Vectors = field(repr=False)
    frame: pl.DataFrame

    def members(self, ids: IdMap) -> pl.DataFrame:
        """Frame (product_id, cluster_id, distance)."""
        return pl.DataFrame(
            {
                schema.PRODUCT_ID: pl.Series(list(ids.texts), dtype=pl.String),
                CLUSTER_ID: self.cluster_id,
                DISTANCE: self.distance,
            }
        )


def cluster(
    table: EmbeddingTable,
    catalogue: Catalogue,
    settings: ClusterSettings,
    *,
    seed: int,
    previous: pl.DataFrame | None = None,
) -> Clusters:
    """Group products by spherical k-means (Dhillon and Modha 2001) and name the groups.

    With groups of last time, k-means starts from their middles in today's vectors, so that what did not change stays
    together, and a group keeps the id of the one it shares most products with.

    Args:
        table: vectors, in the catalogue's row order.
        catalogue: words and attributes for the labels.
        settings: number of groups, words in a label.
        seed: of the start.
        previous: frame (product_id, cluster_id) of last time.

    Raises:
        DataContractError: table and catalogue do not hold the same products.
    """
    if table.ids.texts != catalogue.ids.texts:
        raise DataContractError("embeddings and catalogue hold other products; run 'recsys embed'")
    if not len(table):
        return Clusters(
            np.zeros(0, np.int64), np.zeros(0, np.float32), labels.frame(catalogue, np.zeros(0, np.int64), 1)
        )
    vectors = np.ascontiguousarray(table.vectors)
    last = None if previous is None else _last(previous, table.ids)
    groups, distance = _grouped(vectors, _number(settings, len(table), last), seed=seed, last=last)
    ids = _named(groups, last)
    return Clusters(ids, distance, labels.frame(catalogue, ids, settings.terms))


def groups(vectors: Vectors, *, seed: int, among: Rows, number: int = 0) -> Rows:
    """Spherical k-means without labels: the group of each vector, 0.. without gaps, (n,) int64.

    Args:
        vectors: (n, d) unit vectors.
        seed: of the start.
        among: rows the middles are learned from; the others join the nearest, and change nothing for these.
        number: of groups; 0 = square root of half of `among`.
    """
    if not len(among):
        return np.zeros(len(vectors), np.int64)
    wanted = min(number or max(1, round((len(among) / 2) ** 0.5)), len(among))
    known = np.ascontiguousarray(vectors[among])
    group = _grouped(known, wanted, seed=seed, last=None)[0]
    middles = _middles(known, group)
    out = np.empty(len(vectors), np.int64)
    for at in range(0, len(vectors), _BLOCK):
        out[at : at + _BLOCK] = (vectors[at : at + _BLOCK] @ middles.T).argmax(axis=1)
    out[among] = group
    return out


def _last(previous: pl.DataFrame, ids: IdMap) -> Rows | None:
    """Each product's group of last time, -1 = it had none: (n,) int64, or None when no product is left."""
    rows = ids.rows(previous[schema.PRODUCT_ID].to_list())
    out = np.full(len(ids), -1, np.int64)
    out[rows[rows >= 0]] = previous[CLUSTER_ID].cast(pl.Int64).to_numpy()[rows >= 0]
    return out if (out >= 0).any() else None


def _number(settings: ClusterSettings, n: int, last: Rows | None) -> int:
    if settings.number:
        return min(settings.number, n)
    wanted = max(1, round((n / 2) ** 0.5))
    before = 0 if last is None else len(np.unique(last[last >= 0]))
    return before if abs(before - wanted) <= _KEEP * wanted else wanted


def _grouped(vectors: Vectors, number: int, *, seed: int, last: Rows | None) -> tuple[Rows, Vectors]:
    """Group of each vector, 0.. without gaps, and its distance."""
    import faiss

    start = None if last is None else _middles(vectors, last)
    warm = start is not None and len(start) == number
    means: Any = faiss.Kmeans(
        vectors.shape[1],
        number,
        niter=_ITERATIONS,
        nredo=1 if warm else _STARTS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
    )
    means.train(vectors, init_centroids=start if warm else None)
    middles = np.asarray(means.centroids, np.float32)
    group = np.empty(len(vectors), np.int64)
    near = np.empty(len(vectors), np.float32)
    for at in range(0, len(vectors), _BLOCK):
        cosine = vectors[at : at + _BLOCK] @ middles.T
        group[at : at + _BLOCK] = cosine.argmax(axis=1)
        near[at : at + _BLOCK] = cosine.max(axis=1)
    return np.unique(group, return_inverse=True)[1].astype(np.int64), np.clip(1 - near, 0, 2).astype(np.float32)


def _middles(vectors: Vectors, groups: Rows) -> Vectors:
    """Mean direction of each group, in order of the group ids: (groups, d) float32."""
    held = np.flatnonzero(groups >= 0)
    ids, group = np.unique(groups[held], return_inverse=True)
    sums = np.zeros((len(ids), vectors.shape[1]), np.float64)
    np.add.at(sums, group, vectors[held])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.ascontiguousarray(sums / np.maximum(lengths, 1e-12), np.float32)


def _named(groups: Rows, last: Rows | None) -> Rows:
    """Ids for groups 0..g-1: that of the group of last time they overlap with most, new ones by size: (n,) int64."""
    number = int(groups.max()) + 1
    sizes = np.bincount(groups, minlength=number)
    names = np.full(number, -1, np.int64)
    free = 0
    if last is not None:
        old, new, overlap = _overlap(groups, last, number)
        names[new[overlap >= _SAME]] = old[overlap >= _SAME]
        free = int(last.max()) + 1
    fresh = np.flatnonzero(names < 0)
    order = fresh[np.lexsort((fresh, -sizes[fresh]))]
    names[order] = free + np.arange(len(order))
    return names[groups]


def _overlap(groups: Rows, last: Rows, number: int) -> tuple[Rows, Rows, Vectors]:
    """Pair old and new groups so that the sum of their Jaccard overlaps is highest: old ids, new groups, overlaps."""
    from scipy.optimize import linear_sum_assignment

    both = last >= 0
    ids, old = np.unique(last[both], return_inverse=True)
    shared = np.zeros((len(ids), number), np.float32)
    np.add.at(shared, (old, groups[both]), 1)
    jaccard = shared / np.maximum(shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared, 1)
    left, right = linear_sum_assignment(jaccard, maximize=True)
    return ids[left], right.astype(np.int64), jaccard[left, right]
