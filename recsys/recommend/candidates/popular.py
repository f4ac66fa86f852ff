"""What everybody buys these days; it knows something for every user and so fills every list.

In: Interactions. Out: the same Candidates for all users.
"""

from __future__ import annotations

import numpy as np

from recsys.data.interactions import Interactions
from recsys.data.schema import DAY, RETURN_CODE
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import BoolArray, FloatArray, IntArray


class PopularSource:
    """Purchases of the last days, a day ago counting less than today; then those of all time; then the rest by row.

    Attributes:
        popularity: (n,) float32, how popular; 1 and more = sold within the last days.
        order: (n,) int64, sellable products, the most popular first.
    """

    name = "popular"

    def __init__(self, interactions: Interactions, *, now: int, days: float, sellable: BoolArray | None = None) -> None:
        kept = interactions.event_type != RETURN_CODE
        item, time = interactions.item[kept], interactions.time[kept]
        worth = np.minimum(interactions.weight[kept].astype(np.float64), 1.0)
        ago = np.maximum(now - time, 0) / DAY
        n = interactions.n_items
        fresh = ago <= days
        lately = np.bincount(item[fresh], worth[fresh] * 0.5 ** (ago[fresh] / days), minlength=n)
        always = np.bincount(item, worth * 0.5 ** (ago / (52 * days)), minlength=n)
        # Whatever sold lately stands above whatever did not.
        self.popularity = np.where(lately > 0, 1.0 + lately, always / (1.0 + always)).astype(np.float32)
        order = np.lexsort((np.arange(n), -self.popularity))
        self.order = order[np.ones(n, np.bool_)[order] if sellable is None else sellable[order]].astype(np.int64)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        items = np.sort(self.order[:k])
        b, m = len(users), len(items)
        return Candidates(
            np.repeat(np.arange(b, dtype=np.int64), m),
            np.tile(items, b),
            np.tile(self.popularity[items], b),
            np.zeros(b * m, np.int16),
            np.full(b * m, -1, np.int64),
        )

    def score(self, _: UserBatch, __: IntArray, item: IntArray) -> FloatArray:
        return self.popularity[item]
