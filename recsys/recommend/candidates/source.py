"""The candidate source interface and its data types: candidates by source, and merged (user, product) pairs.

In: parallel arrays. Out: `Candidates`, sorted by the user's position in the batch; `CandidatePairs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Histories
from recsys.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class UserBatch:
    """A batch of users as the sources see them: their events before `now`, without user ids.

    Attributes:
        histories: (b, t) events, newest last.
        now: UTC seconds at which recommendations are made.
    """

    histories: Histories
    now: int

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def latest_event(self) -> UserBatch:
        """The same users with only their last event."""
        full = self.histories
        latest = replace(full, items=full.items[:, -1:], times=full.times[:, -1:], event_types=full.event_types[:, -1:])
        return UserBatch(latest, self.now)


@dataclass(frozen=True)
class Candidates:
    """m retrieved candidates; each (user, item, source) at most once.

    Attributes:
        user: (m,) int64 position in the batch 0..b-1, ascending.
        item: (m,) int64 product row.
        score: (m,) float32 in the source's own units, higher is better.
        source: (m,) int16 position in the list of sources.
        source_item: (m,) int64 row of the product that led to the candidate, -1 = none.
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
        """Return no candidates."""
        no_index = np.zeros(0, np.int64)
        return Candidates(no_index, no_index, np.zeros(0, np.float32), np.zeros(0, np.int16), no_index)

    @staticmethod
    def concat(parts: Sequence[Candidates]) -> Candidates:
        """Concatenate the candidates of several sources, sorted by (user, item, source)."""
        user, item, score, source, source_item = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("user", "item", "score", "source", "source_item")
        )
        order = np.lexsort((source, item, user))
        return Candidates(user[order], item[order], score[order], source[order], source_item[order])


class CandidateSource(Protocol):
    """A method that retrieves candidate products for users and scores any (user, product) pair."""

    name: str

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        """Return up to k products per user, with `source` 0; none for a user without the data the source needs."""
        ...

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        """Score m pairs, whichever source retrieved them: (m,) float32 in the units of `retrieve`, 0 = no evidence.

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
        proposed_by: (m, s) bool, whether the source retrieved the pair.
        source_item: (m, s) row of the product that led the source to the candidate, -1 = none.
    """

    user: IntArray
    item: IntArray
    proposed_by: BoolArray
    source_item: IntArray

    def __len__(self) -> int:
        return len(self.user)

    def filter(self, mask: BoolArray) -> CandidatePairs:
        """Return the pairs where the mask (m,) is true."""
        return CandidatePairs(self.user[mask], self.item[mask], self.proposed_by[mask], self.source_item[mask])


def merge_candidates(candidates: Candidates, n_sources: int) -> CandidatePairs:
    """Merge the candidates of `n_sources` sources into distinct (user, product) pairs."""
    user, item = candidates.user, candidates.item
    first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]
    pair = np.cumsum(first) - 1
    shape = (int(first.sum()), n_sources)
    proposed_by, source_item = np.zeros(shape, np.bool_), np.full(shape, -1, np.int64)
    proposed_by[pair, candidates.source] = True
    source_item[pair, candidates.source] = candidates.source_item
    return CandidatePairs(user[first], item[first], proposed_by, source_item)
