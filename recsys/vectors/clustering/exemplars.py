"""Products that stand for a group: near its middle, for sale, and not the same thing twice.

In: vectors, the group of each product, the catalogue. Out: a few rows for each group.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.types import FloatArray, IntArray

_LOOKED_AT: Final = 200
"""Nearest products of a group among which its exemplars are sought."""

_TWIN: Final = 0.99
"""Cosine from which two products look the same."""


def select_exemplars(
    catalogue: Catalogue, vectors: FloatArray, *, group: IntArray, distance: FloatArray, count: int
) -> dict[int, IntArray]:
    """At most `count` rows for each group, nearest its middle first; fewer where it has fewer that fit.

    Left out are products that cannot be sold, variants (`group_id`) of one chosen before, products with the same title
    as one, and products whose vector is nearly the same (cosine 0.99).

    Args:
        catalogue: n products.
        vectors: (n, d) unit vectors.
        group: (n,) int64 group ids; below 0 = in none, which has no exemplars.
        distance: (n,) float32 to the middle of the group.
        count: of each group.
    """
    order = np.lexsort((np.arange(len(group)), distance, group))
    order = order[(group[order] >= 0) & catalogue.sellable[order]]
    ids, starts = np.unique(group[order], return_index=True)
    own = _texts(catalogue, schema.GROUP_ID), _texts(catalogue, schema.TITLE)
    chosen = {int(one): np.zeros(0, np.int64) for one in np.unique(group[group >= 0])}
    for one, rows in zip(ids, np.split(order, starts[1:]) if len(ids) else [], strict=True):
        held: list[int] = []
        said: set[tuple[int, str]] = set()
        for row in rows[:_LOOKED_AT].tolist():
            names = {(at, texts[row]) for at, texts in enumerate(own) if texts[row]}
            if len(held) == count:
                break
            if names & said or (held and float((vectors[held] @ vectors[row]).max()) >= _TWIN):
                continue
            held.append(row)
            said |= names
        chosen[int(one)] = np.array(held, np.int64)
    return chosen


def _texts(catalogue: Catalogue, name: str) -> list[str]:
    if name not in catalogue.frame.columns:
        return [""] * len(catalogue)
    texts = catalogue.frame[name].cast(str).fill_null("")
    return texts.str.to_lowercase().str.strip_chars().to_list() if name == schema.TITLE else texts.to_list()
