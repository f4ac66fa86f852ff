"""Reciprocal rank fusion of several rankings.

In: rows in the order of each ranking. Out: the best k rows of the fused ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.types import FloatArray, IntArray


def reciprocal_rank_fusion(
    rankings: Sequence[IntArray], k: int, *, constant: float = 60, groups: IntArray | None = None
) -> tuple[FloatArray, IntArray]:
    """Sum 1 / (constant + rank) over the rankings, ranks counted from 1.

    Only ranks count, so scores that cannot be compared (cosines, BM25) need no scaling. Cormack, Clarke and Buettcher
    2009.

    Args:
        rankings: rows (m,) each, best first, a variant group at most once in each.
        k: results.
        constant: a larger one reduces the weight of the first ranks.
        groups: (n,) variant group of each row; variants of one product share their score, and the one with the best
            rank represents them.

    Returns:
        Scores and rows, at most k, descending, ties by lower row.
    """
    scores_by_group: dict[int, float] = {}
    best: dict[int, tuple[int, int]] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking.tolist(), start=1):
            group = row if groups is None else int(groups[row])
            scores_by_group[group] = scores_by_group.get(group, 0.0) + 1.0 / (constant + rank)
            best[group] = min(best.get(group, (rank, row)), (rank, row))
    rows = np.array([best[group][1] for group in scores_by_group], np.int64)
    scores = np.array(list(scores_by_group.values()), np.float32)
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]
