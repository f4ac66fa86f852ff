"""Excluded (query, item) pairs, such as earlier purchases, and their positions in blocks of scores.

In: pairs (query, item row). Out: excluded rows of a query, positions in blocks of approximate scores.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.types import IntArray
from recsys.vectors.topk.low_precision import LowPrecisionItems


class Exclusions:
    """Excluded pairs, sorted by query."""

    def __init__(self, pairs: tuple[IntArray, IntArray] | None, b: int) -> None:
        query, item = pairs if pairs is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        order = np.argsort(query, kind="stable")
        self.item = item[order]
        self.starts = np.searchsorted(query[order], np.arange(b + 1))

    def count(self, query: int) -> int:
        """Return the number of excluded items of a query."""
        return int(self.starts[query + 1] - self.starts[query])

    def rows(self, query: int) -> IntArray:
        """Return the excluded item rows of a query: (m,)."""
        return self.item[self.starts[query] : self.starts[query + 1]]

    def for_queries(self, part: IntArray) -> tuple[IntArray, IntArray]:
        """Return the pairs of some queries: (m,) positions in `part`, (m,) item rows."""
        count = self.starts[part + 1] - self.starts[part]
        user = np.repeat(np.arange(len(part)), count)
        within = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
        return user, self.item[np.repeat(self.starts[part], count) + within]

    def positions(self, part: IntArray, items: LowPrecisionItems) -> tuple[IntArray, IntArray]:
        """Return the pairs of some queries as positions in `part` (m,) and in the search order (m,)."""
        user, item = self.for_queries(part)
        position = items.positions[item]
        return user[position >= 0], position[position >= 0]

    def block_positions(self, part: IntArray, items: LowPrecisionItems, width: int) -> list[torch.Tensor] | None:
        """Return the excluded flat positions in each block's scores (queries of `part`, width).

        A block holds `width` items. None where nothing is excluded.
        """
        if not len(self.item):
            return None
        user, position = self.positions(part, items)
        n_blocks, block = -(-len(items.order) // width), position // width
        order = np.argsort(block.astype(np.uint16) if n_blocks < 1 << 16 else block, kind="stable")
        flat = (user * width + position % width)[order]
        ends = np.cumsum(np.bincount(block, minlength=n_blocks))
        return list(torch.from_numpy(flat).tensor_split(torch.from_numpy(ends[:-1])))
