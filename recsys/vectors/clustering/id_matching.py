"""The groups of last time and those of today: which is which, what came, what went and into what.

In: the group of each product then and now. Out: today's groups under their lasting ids; a table of changes.
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
"""The id of products in no group."""
UNKNOWN: Final = -2
"""Where there was no product last time."""

_SAME: Final = 0.2
"""Jaccard overlap from which a group counts as the one of last time."""

_PART: Final = 0.2
"""Share of a group's products from which it is told where they went, or came from."""

CHANGES: Final = {
    "change": pl.String,
    "cluster_id": pl.Int64,
    "label": pl.String,
    "size": pl.Int64,
    "other": pl.String,
}
"""Columns of the table of changes."""


@dataclass(frozen=True)
class PreviousClusters:
    """The groups of last time.

    Attributes:
        members: frame (product_id, cluster_id).
        labels: group id -> label.
        method: how they were made; empty when that is not known.
        free: the lowest id no group ever had, if known: ids of groups that went are not given again.
    """

    members: pl.DataFrame
    labels: Mapping[int, str] = field(default_factory=dict)
    method: str = ""
    free: int = 0

    def rows(self, ids: IdMap) -> IntArray:
        """Each product's group then, -1 = in none, -2 = unknown then: (n,) int64."""
        own = ids.rows(self.members[schema.PRODUCT_ID].to_list())
        out = np.full(len(ids), UNKNOWN, np.int64)
        out[own[own >= 0]] = self.members["cluster_id"].cast(pl.Int64).to_numpy()[own >= 0]
        return out


def match_cluster_ids(group: IntArray, last: IntArray | None, *, free: int = 0) -> IntArray:
    """Lasting ids: that of the group of last time it overlaps with most; new ones by size, the largest first.

    Args:
        group: (n,) int64, 0.. without gaps, -1 = in none.
        last: (n,) int64 of last time, below 0 = in none or unknown; None = there was no last time.
        free: lowest id that was never given.

    Returns:
        (n,) int64; -1 stays -1.
    """
    number = int(group.max(initial=-1)) + 1
    sizes = np.bincount(group[group >= 0], minlength=number)
    names = np.full(number, -1, np.int64)
    if last is not None:
        old, new, overlap = _paired(group, last, number)
        names[new[overlap >= _SAME]] = old[overlap >= _SAME]
        free = max(free, int(last.max(initial=-1)) + 1)
    fresh = np.flatnonzero(names < 0)
    order = fresh[np.lexsort((fresh, -sizes[fresh]))]
    names[order] = free + np.arange(len(order))
    return np.where(group >= 0, names[group], NONE) if number else np.full(len(group), NONE, np.int64)


def _paired(group: IntArray, last: IntArray, number: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Pair old and new groups so that the sum of their Jaccard overlaps is highest: old ids, new groups, overlaps.

    Products that only one of the two times knows count for neither side.
    """
    from scipy.optimize import linear_sum_assignment

    known = last != UNKNOWN
    ids = np.unique(last[last >= 0])
    shared = np.zeros((len(ids), number), np.float64)
    both = known & (last >= 0) & (group >= 0)
    np.add.at(shared, (np.searchsorted(ids, last[both]), group[both]), 1)
    before = np.bincount(np.searchsorted(ids, last[last >= 0]), minlength=len(ids))
    now = np.bincount(group[known & (group >= 0)], minlength=number)
    jaccard = (shared / np.maximum(before[:, None] + now[None, :] - shared, 1)).astype(np.float32)
    left, right = linear_sum_assignment(jaccard, maximize=True)
    return ids[left], right.astype(np.int64), jaccard[left, right]


def cluster_changes(
    now: IntArray, labels: Mapping[int, str], last: IntArray | None, told: Mapping[int, str]
) -> pl.DataFrame:
    """What came and went since last time.

    Args:
        now: (n,) lasting ids of today.
        labels: of today's groups.
        last: (n,) ids of last time; None = there was no last time, and nothing changed.
        told: labels of last time's groups.

    Returns:
        Frame (change, cluster_id, label, size, other), first the retired groups, then the new ones, by id. `size` of a
        retired group is what is left of its products; `other` says into which groups they went, or for a new group
        from which its products came, as far as a fifth or more of them did.
    """
    if last is None:
        return pl.DataFrame(schema=CHANGES)
    gone = sorted((set(told) | set(last[last >= 0].tolist())) - set(now.tolist()) - {NONE})
    came = sorted(set(now[now >= 0].tolist()) - set(last.tolist()))
    rows = [
        ("retired", one, told.get(one, f"group {one}"), int((last == one).sum()), _where(now[last == one], labels))
        for one in gone
    ]
    rows += [
        ("new", one, labels[one], int((now == one).sum()), _where(last[now == one], told, new="new products"))
        for one in came
    ]
    return pl.DataFrame(rows, schema=CHANGES, orient="row")


def _where(groups: IntArray, labels: Mapping[int, str], *, new: str = "") -> str:
    ids, counts = np.unique(groups, return_counts=True)
    order = np.lexsort((ids, -counts))
    named = {UNKNOWN: new, NONE: "no group"}
    parts = []
    for at in order:
        one, share = int(ids[at]), counts[at] / len(groups)
        if share >= _PART:
            parts.append(f"{share:.0%} {named.get(one) or f'{one} ' + labels.get(one, '')}")
    return ", ".join(parts)
