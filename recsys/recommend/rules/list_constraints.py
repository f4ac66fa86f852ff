"""Constraints on a whole list, and the greedy selection of its positions from the ranked candidates.

In: a `RankedPool` of ranked candidates, list constraints, a marginal gain. Out: `Selection`, k positions per user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

BEYOND_HEAD, RESERVED, ABOVE_CAP = 1, 2, 4
"""Bits of a candidate's tier; candidates of a larger tier are selected later: beyond the head that the marginal gain
covers, in a position reserved for a new product, over a cap."""


@dataclass(frozen=True)
class RankedPool:
    """Ranked candidates of b users as a table: column c holds each user's c-th best, ties by lower product row.

    Attributes:
        row: (b, c) index into the flat arrays it was built from, -1 = the user has fewer.
        item: (b, c) product row, 0 where there is none.
        score: (b, c) float32, -inf where there is none.
    """

    row: IntArray
    item: IntArray
    score: FloatArray

    @staticmethod
    def from_candidates(user: IntArray, item: IntArray, score: FloatArray, *, n_users: int) -> RankedPool:
        """Arrange flat candidates of `n_users` users in a table."""
        order = np.lexsort((item, -score, user))
        by_user = user[order]
        rank = np.arange(len(order)) - np.searchsorted(by_user, by_user)
        shape = (n_users, int(rank.max(initial=-1)) + 1)
        row, items = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        scores = np.full(shape, -np.inf, np.float32)
        row[by_user, rank], items[by_user, rank], scores[by_user, rank] = order, item[order], score[order]
        return RankedPool(row, items, scores)


class ConstraintState(Protocol):
    """State of a constraint while the lists of a batch of users are filled, position by position."""

    def blocked_mask(self, position: int) -> BoolArray:
        """Mark candidates that must not take this position (0 = the first) while others can: (b, c) bool."""
        ...

    def update(self, column: IntArray) -> None:
        """Record the candidate selected for each user: (b,) column, -1 = none is left."""
        ...


class ListConstraint(Protocol):
    """A rule after the ranker: whether a candidate may take a position depends on the positions before it."""

    @property
    def name(self) -> str:
        """The setting's name; candidates it moves are counted under it."""
        ...

    @property
    def tier(self) -> int:
        """The tier bit of a candidate it blocks: CAPPED or SPARE."""
        ...

    def begin(self, pool: RankedPool, k: int) -> ConstraintState:
        """Start the lists of a batch of users."""
        ...


class MarginalGain(Protocol):
    """Gain of adding a candidate to the list so far; covers only the first `head` columns of the pool."""

    head: int

    def value(self, position: int) -> DoubleArray:
        """Compute the gain of each candidate of the head, between -1000 and 1000: (b, head)."""
        ...

    def update(self, column: IntArray) -> None:
        """Record the candidate selected for each user: (b,) column, -1 = none is left."""
        ...


class MaxPerValue:
    """At most `max_count` products per value of a column; products without a value are not capped."""

    tier = ABOVE_CAP

    def __init__(self, column: str, max_count: int, codes: IntArray) -> None:
        """Take the code (n,) of each product's value, -1 = none."""
        self.name, self.max_count, self.codes = f"caps.{column}", max_count, codes

    def begin(self, pool: RankedPool, _: int) -> ConstraintState:
        return _CapState(self.codes[pool.item], self.max_count)


class _CapState:
    def __init__(self, codes: IntArray, max_count: int) -> None:
        self._codes, self._max_count = codes, max_count
        self._count = np.zeros(codes.shape, np.int32)

    def blocked_mask(self, _: int) -> BoolArray:
        return np.asarray(self._count >= self._max_count, np.bool_)

    def update(self, column: IntArray) -> None:
        self._count += same_value_mask(self._codes, column)


class MinNewProducts:
    """At least `min_count` new products if there are as many; unless better, they take the last ranks.

    Attributes:
        min_count: number of new products per list.
        new_mask: (n,) bool, the new products.
    """

    name, tier = "min_new", RESERVED

    def __init__(self, min_count: int, new_mask: BoolArray) -> None:
        self.min_count, self.new_mask = min_count, new_mask

    def begin(self, pool: RankedPool, k: int) -> ConstraintState:
        return _ReserveState(self.new_mask[pool.item], min(self.min_count, k), k)


class _ReserveState:
    def __init__(self, new_mask: BoolArray, min_count: int, k: int) -> None:
        self._new_mask, self._k = new_mask, k
        self._n_missing = np.full(len(new_mask), min_count, np.int64)

    def blocked_mask(self, position: int) -> BoolArray:
        must_be_new = (self._n_missing > 0) & (self._n_missing >= self._k - position)
        return np.asarray(must_be_new[:, None] & ~self._new_mask, np.bool_)

    def update(self, column: IntArray) -> None:
        self._n_missing -= (column >= 0) & self._new_mask[np.arange(len(column)), np.maximum(column, 0)]


def same_value_mask(codes: IntArray, column: IntArray) -> BoolArray:
    """Mark the candidates with the value of the selected one: (b, c) bool; none if it has no value or is missing."""
    chosen_code = np.where(column >= 0, codes[np.arange(len(codes)), np.maximum(column, 0)], -1)
    return np.asarray((codes == chosen_code[:, None]) & (chosen_code >= 0)[:, None], np.bool_)


@dataclass(frozen=True)
class Selection:
    """The selected candidates of b lists.

    Attributes:
        column: (b, k) column of the pool, -1 = no candidate is left.
        over_cap: (b, k) bool, positions that went to a candidate over a cap.
        moved_counts: per constraint, candidates among a user's k best that it moved down or out; one candidate may
            count for several constraints.
    """

    column: IntArray
    over_cap: BoolArray
    moved_counts: Mapping[str, int]

    @property
    def n_over_cap(self) -> int:
        """Number of positions that went to a candidate over a cap."""
        return int(self.over_cap.sum())


def select_greedy(
    pool: RankedPool, k: int, *, constraints: Sequence[ListConstraint], gain: MarginalGain | None
) -> Selection:
    """Greedily fill each list position by position, vectorised over users.

    Each position goes to the candidate with the largest gain, without `gain` to the one with the highest score. A
    candidate that a constraint blocks is selected only when no other is left, and then by descending score.
    """
    b, width = pool.row.shape
    users, columns = np.arange(b), np.arange(width)
    selected = np.full((b, k), -1, np.int64)
    available, within_caps = pool.row >= 0, np.zeros((b, width), np.bool_)
    states = [(rule, rule.begin(pool, k), np.zeros((b, min(k, width)), np.bool_)) for rule in constraints]
    over_caps = np.zeros((b, k), np.bool_)
    for position in range(min(k, width)):
        tier = np.zeros((b, width), np.int64)
        for rule, state, ever_blocked in states:
            blocked = state.blocked_mask(position) & available
            ever_blocked |= blocked[:, :k]
            tier |= blocked * rule.tier
        if gain is not None:
            tier[:, gain.head :] |= BEYOND_HEAD
        # A user without a new candidate left fills the position as if it were not reserved.
        min_tier = np.where(available, tier, ABOVE_CAP).min(axis=1)
        tier -= (tier & RESERVED) * ((min_tier >= RESERVED) & (min_tier < ABOVE_CAP))[:, None]
        key = -(tier * 1e9 + columns)
        if gain is not None:
            key[:, : gain.head] = np.where(tier[:, : gain.head] > 0, key[:, : gain.head], gain.value(position))
        best = np.where(available, key, -np.inf).argmax(axis=1)
        has_candidate = available[users, best]
        over_cap = tier[users, best] >= ABOVE_CAP
        over_caps[:, position] = has_candidate & over_cap
        within_caps[users[has_candidate & ~over_cap], best[has_candidate & ~over_cap]] = True
        available[users[has_candidate], best[has_candidate]] = False
        selected[:, position] = column = np.where(has_candidate, best, -1)
        for _, state, _ in states:
            state.update(column)
        if gain is not None:
            gain.update(column)
    moved = {rule.name: int((ever_blocked & ~within_caps[:, :k]).sum()) for rule, _, ever_blocked in states}
    return Selection(selected, over_caps, moved)
