"""Two rankings made one: reciprocal rank fusion.

In: rows in the order of each ranking. Out: the best k rows of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.types import FloatArray, IntArray


def reciprocal_rank_fusion(
    rankings: Sequence[IntArray], k: int, *, constant: float = 60, kin: IntArray | None = None
) -> tuple[FloatArray, IntArray]:
    """Sum 1 / (constant + place) over the rankings, places counted from 1.

    Only places count, so scores that cannot be compared (cosines, BM25) need no scaling. Cormack, Clarke and Buettcher
    2009.

    Args:
        rankings: rows (m,) each, best first, a family at most once in each.
        k: rows wanted.
        constant: larger = the first places count less.
        kin: (n,) family of each row; variants of one product share their points, and the one placed best stands for
            them.

    Returns:
        Scores and rows, at most k, descending, ties by lower row.
    """
    points: dict[int, float] = {}
    best: dict[int, tuple[int, int]] = {}
    for ranking in rankings:
        for place, row in enumerate(ranking.tolist(), start=1):
            family = row if kin is None else int(kin[row])
            points[family] = points.get(family, 0.0) + 1.0 / (constant + place)
            best[family] = min(best.get(family, (place, row)), (place, row))
    rows = np.array([best[family][1] for family in points], np.int64)
    scores = np.array(list(points.values()), np.float32)
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]
