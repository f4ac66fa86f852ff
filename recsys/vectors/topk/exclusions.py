"""What a query may not get, and where that stands among the rough scores.

In: pairs (query, item row). Out: rows of a query, places in blocks of scores.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.types import IntArray
from recsys.vectors.topk.low_precision import LowPrecisionItems


class Exclusions:
    """Pairs sorted by query."""

    def __init__(self, pairs: tuple[IntArray, IntArray] | None, b: int) -> None:
        query, item = pairs if pairs is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        order = np.argsort(query, kind="stable")
        self.item = item[order]
        self.starts = np.searchsorted(query[order], np.arange(b + 1))

    def count(self, query: int) -> int:
        return int(self.starts[query + 1] - self.starts[query])

    def rows(self, query: int) -> IntArray:
        return self.item[self.starts[query] : self.starts[query + 1]]

    def only(self, part: IntArray) -> tuple[IntArray, IntArray]:
        """The pairs of some queries, counted anew: (m,) positions in `part`, (m,) rows."""
        count = self.starts[part + 1] - self.starts[part]
        user = np.repeat(np.arange(len(part)), count)
        within = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
        return user, self.item[np.repeat(self.starts[part], count) + within]

    def places(self, part: IntArray, rough: LowPrecisionItems) -> tuple[IntArray, IntArray]:
        """The pairs of some queries: (m,) positions in `part`, (m,) places in the order of the items."""
        user, item = self.only(part)
        place = rough.places[item]
        return user[place >= 0], place[place >= 0]

    def blocks(self, part: IntArray, rough: LowPrecisionItems, width: int) -> list[torch.Tensor] | None:
        """For each block of `width` items, the places in its scores (queries of `part`, width) that are barred."""
        if not len(self.item):
            return None
        user, place = self.places(part, rough)
        number, block = -(-len(rough.order) // width), place // width
        order = np.argsort(block.astype(np.uint16) if number < 1 << 16 else block, kind="stable")
        flat = (user * width + place % width)[order]
        ends = np.cumsum(np.bincount(block, minlength=number))
        return list(torch.from_numpy(flat).tensor_split(torch.from_numpy(ends[:-1])))
