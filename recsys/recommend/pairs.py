"""Each proposed (user, product) once, with the sources that proposed it side by side.

In: Candidates of all sources. Out: `Pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.recommend.candidates.source import Candidates
from recsys.types import BoolArray, IntArray


@dataclass(frozen=True)
class Pairs:
    """m distinct (user, product) pairs, by user, then product; s sources.

    Attributes:
        user: (m,) position in the batch.
        item: (m,) product row.
        held: (m, s) bool, did the source propose it.
        because: (m, s) product row the source's proposal stems from, -1 = none.
    """

    user: IntArray
    item: IntArray
    held: BoolArray
    because: IntArray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, kept: BoolArray) -> Pairs:
        """The pairs where `kept` (m,) is true."""
        return Pairs(self.user[kept], self.item[kept], self.held[kept], self.because[kept])


def pairs_of(candidates: Candidates, sources: int) -> Pairs:
    """Put what the sources say about one (user, product) side by side."""
    user, item = candidates.user, candidates.item
    first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]
    at = np.cumsum(first) - 1
    shape = (int(first.sum()), sources)
    held, because = np.zeros(shape, np.bool_), np.full(shape, -1, np.int64)
    held[at, candidates.source] = True
    because[at, candidates.source] = candidates.because
    return Pairs(user[first], item[first], held, because)
