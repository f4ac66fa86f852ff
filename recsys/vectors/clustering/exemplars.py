"""Select exemplar products of each cluster: near its centroid, for sale, and without duplicates.

In: vectors, the cluster of each product, the catalogue. Out: a few rows for each cluster.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import FloatArray, IntArray

_MAX_CANDIDATES: Final = 200
"""Products nearest to the centroid among which exemplars are selected."""

_DUPLICATE_COSINE: Final = 0.99
"""Cosine from which two products look the same."""


def select_exemplars(
    catalogue: Catalogue, vectors: FloatArray, *, cluster_ids: IntArray, distance: FloatArray, count: int
) -> dict[int, IntArray]:
    """Return at most `count` rows for each cluster, nearest to its centroid first.

    Skipped are products that cannot be sold, variants (`group_id`) of a selected product, products with the same title,
    and products with nearly the same vector (cosine 0.99).

    Args:
        catalogue: n products.
        vectors: (n, d) unit vectors.
        cluster_ids: (n,) int64 cluster ids; below 0 = in no cluster, which has no exemplars.
        distance: (n,) float32 to the centroid of the cluster.
        count: exemplars per cluster.
    """
    order = np.lexsort((np.arange(len(cluster_ids)), distance, cluster_ids))
    order = order[(cluster_ids[order] >= 0) & catalogue.sellable[order]]
    ids, starts = np.unique(cluster_ids[order], return_index=True)
    key_columns = _texts(catalogue, schema.GROUP_ID), _texts(catalogue, schema.TITLE)
    exemplars = {int(cluster): np.zeros(0, np.int64) for cluster in np.unique(cluster_ids[cluster_ids >= 0])}
    for cluster, rows in zip(ids, np.split(order, starts[1:]) if len(ids) else [], strict=True):
        selected: list[int] = []
        used_keys: set[tuple[int, str]] = set()
        for row in rows[:_MAX_CANDIDATES].tolist():
            keys = {(column, texts[row]) for column, texts in enumerate(key_columns) if texts[row]}
            if len(selected) == count:
                break
            if keys & used_keys or (selected and float((vectors[selected] @ vectors[row]).max()) >= _DUPLICATE_COSINE):
                continue
            selected.append(row)
            used_keys |= keys
        exemplars[int(cluster)] = np.array(selected, np.int64)
    return exemplars


def _texts(catalogue: Catalogue, name: str) -> list[str]:
    """Return a column as texts, titles folded; "" where it is empty."""
    if name not in catalogue.frame.columns:
        return [""] * len(catalogue)
    texts = catalogue.frame[name].cast(str).fill_null("")
    return texts.str.to_lowercase().str.strip_chars().to_list() if name == schema.TITLE else texts.to_list()
