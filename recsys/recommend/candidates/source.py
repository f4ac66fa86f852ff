"""What candidate sources say: for which user which product, how strongly, by which source, because of what.

In: parallel arrays. Out: `Candidates`, grouped by position of the user in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Histories
from recsys.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class UserBatch:
    """Some users as the sources see them: what they did before `now`. User ids do not matter here.

    Attributes:
        histories: (b, t) events, newest last.
        now: UTC seconds of the moment the list is for.
    """

    histories: Histories
    now: int

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def latest_event(self) -> UserBatch:
        """The same users with their last event alone."""
        old = self.histories
        return UserBatch(Histories(old.users, old.items[:, -1:], old.times[:, -1:], old.event_types[:, -1:]), self.now)


@dataclass(frozen=True)
class Candidates:
    """m proposals; each (user, item, source) at most once.

    Attributes:
        user: (m,) int64 position in the batch 0..b-1, ascending.
        item: (m,) int64 product row.
        score: (m,) float32 in the source's own units, higher is better.
        source: (m,) int16 position in the list of sources.
        because: (m,) int64 product row the proposal stems from, -1 = none.
    """

    user: IntArray
    item: IntArray
    score: FloatArray
    source: npt.NDArray[np.int16]
    source_item: IntArray

    def __len__(self) -> int:
        return len(self.user)

    @staticmethod
    def empty() -> Candidates:
        """No proposal."""
        whole = np.zeros(0, np.int64)
        return Candidates(whole, whole, np.zeros(0, np.float32), np.zeros(0, np.int16), whole)

    @staticmethod
    def concat(parts: Sequence[Candidates]) -> Candidates:
        """All proposals of several sources, sorted by (user, item, source)."""
        user, item, score, source, because = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("user", "item", "score", "source", "source_item")
        )
        order = np.lexsort((source, item, user))
        return Candidates(user[order], item[order], score[order], source[order], because[order])


class CandidateSource(Protocol):
    """A way of coming by products for a user."""

    name: str

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        """Up to k products for each user, `source` filled with 0; nothing for a user it knows nothing about."""
        ...

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        """What it says of m pairs, whoever proposed them: (m,) float32 in the units of `propose`, 0 = nothing.

        Args:
            users: the batch.
            user: (m,) position in the batch, ascending.
            item: (m,) product row.
        """
        ...


@dataclass(frozen=True)
class CandidatePairs:
    """m distinct (user, product) pairs, by user, then product; s sources.

    Attributes:
        user: (m,) position in the batch.
        item: (m,) product row.
        held: (m, s) bool, did the source propose it.
        because: (m, s) product row the source's proposal stems from, -1 = none.
    """

    user: IntArray
    item: IntArray
    proposed_by: BoolArray
    source_item: IntArray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, kept: BoolArray) -> CandidatePairs:
        """The pairs where `kept` (m,) is true."""
        return CandidatePairs(self.user[kept], self.item[kept], self.proposed_by[kept], self.source_item[kept])


def merge_candidates(candidates: Candidates, sources: int) -> CandidatePairs:
    """Put what the sources say about one (user, product) side by side."""
    user, item = candidates.user, candidates.item
    first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]
    at = np.cumsum(first) - 1
    shape = (int(first.sum()), sources)
    held, because = np.zeros(shape, np.bool_), np.full(shape, -1, np.int64)
    held[at, candidates.source] = True
    because[at, candidates.source] = candidates.source_item
    return CandidatePairs(user[first], item[first], held, because)
