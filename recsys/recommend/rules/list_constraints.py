"""Rules about a list as a whole, and the choice of its places one after the other among the ranked candidates.

In: a `RankedPool` of ranked candidates, rules after the ranker, what a place gains. Out: `Selection`, k places a user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

BEYOND, SPARE, CAPPED = 1, 2, 4
"""How far a candidate is from being chosen; a larger sum comes later: beyond the head that diversity looks at, kept
back for a new product, over a cap."""


@dataclass(frozen=True)
class RankedPool:
    """Ranked candidates of b users side by side: column c holds each user's c-th best, ties by lower product row.

    Attributes:
        row: (b, c) place in the flat arrays it was made from, -1 = the user has fewer.
        item: (b, c) product row, 0 where there is none.
        score: (b, c) float32, -inf where there is none.
    """

    row: IntArray
    item: IntArray
    score: FloatArray

    @staticmethod
    def of(user: IntArray, item: IntArray, score: FloatArray, *, users: int) -> RankedPool:
        """Put flat candidates side by side."""
        order = np.lexsort((item, -score, user))
        by_user = user[order]
        place = np.arange(len(order)) - np.searchsorted(by_user, by_user)
        shape = (users, int(place.max(initial=-1)) + 1)
        row, items = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        scores = np.full(shape, -np.inf, np.float32)
        row[by_user, place], items[by_user, place], scores[by_user, place] = order, item[order], score[order]
        return RankedPool(row, items, scores)


class ConstraintState(Protocol):
    """A rule while the lists of some users are made, place by place."""

    def barred(self, place: int) -> BoolArray:
        """Which candidates shall not take this place (0 = the first) as long as others can: (b, c) bool."""
        ...

    def took(self, column: IntArray) -> None:
        """Note which candidate each user's place went to: (b,), -1 = none is left."""
        ...


class ListConstraint(Protocol):
    """A rule after the ranker: whether a candidate may take a place depends on the places before it."""

    @property
    def name(self) -> str:
        """The setting's name; places it moves are counted under it."""
        ...

    @property
    def weight(self) -> int:
        """CAPPED or SPARE: what a candidate it bars is."""
        ...

    def begin(self, pool: RankedPool, k: int) -> ConstraintState:
        """Start on the lists of some users."""
        ...


class MarginalGain(Protocol):
    """What a candidate would add to the list so far; only the first `head` columns are looked at."""

    head: int

    def value(self, place: int) -> DoubleArray:
        """What each candidate of the head adds, between -1000 and 1000: (b, head)."""
        ...

    def update(self, column: IntArray) -> None:
        """As in `ConstraintState`."""
        ...


class MaxPerValue:
    """At most so many products of one value of a column; products without a value are not capped."""

    weight = CAPPED

    def __init__(self, column: str, most: int, codes: IntArray) -> None:
        """`codes` (n,) tells values apart, -1 = none."""
        self.name, self._most, self._codes = f"caps.{column}", most, codes

    def begin(self, pool: RankedPool, _: int) -> ConstraintState:
        return _Capped(self._codes[pool.item], self._most)


class _Capped:
    def __init__(self, codes: IntArray, most: int) -> None:
        self._codes, self._most = codes, most
        self._count = np.zeros(codes.shape, np.int32)

    def barred(self, _: int) -> BoolArray:
        return np.asarray(self._count >= self._most, np.bool_)

    def took(self, column: IntArray) -> None:
        self._count += same_value_mask(self._codes, column)


class MinNewProducts:
    """At least so many new products, as far as there are new candidates: they get the last places if no better."""

    name, weight = "min_new", SPARE

    def __init__(self, least: int, new: BoolArray) -> None:
        """`new` (n,) tells which products are."""
        self.least, self.new = least, new

    def begin(self, pool: RankedPool, k: int) -> ConstraintState:
        return _ReserveState(self.new[pool.item], min(self.least, k), k)


class _ReserveState:
    def __init__(self, new: BoolArray, least: int, k: int) -> None:
        self._new, self._k = new, k
        self._need = np.full(len(new), least, np.int64)

    def barred(self, place: int) -> BoolArray:
        pressing = (self._need > 0) & (self._need >= self._k - place)
        return np.asarray(pressing[:, None] & ~self._new, np.bool_)

    def took(self, column: IntArray) -> None:
        self._need -= (column >= 0) & self._new[np.arange(len(column)), np.maximum(column, 0)]


def same_value_mask(codes: IntArray, column: IntArray) -> BoolArray:
    """Which candidates have the value of the one chosen, (b, c) bool; none where nothing or no value was chosen."""
    mine = np.where(column >= 0, codes[np.arange(len(codes)), np.maximum(column, 0)], -1)
    return np.asarray((codes == mine[:, None]) & (mine >= 0)[:, None], np.bool_)


@dataclass(frozen=True)
class Selection:
    """The places of b lists.

    Attributes:
        column: (b, k) column of the pool, -1 = no candidate is left.
        over: places that went to a candidate over a cap.
        moved: by rule, candidates among a user's k best that it put further down or out; one may count for several.
    """

    column: IntArray
    over: int
    moved: Mapping[str, int]


def select_greedy(pool: RankedPool, k: int, *, rules: Sequence[ListConstraint], gain: MarginalGain | None) -> Selection:
    """Give away the places of all lists, the first ones first: greedy, all users at once, k steps.

    Each place goes to the candidate that gains most, without `gain` to the one of the highest score; what a rule bars
    takes a place only when nothing else is left, and then by falling score.
    """
    b, width = pool.row.shape
    users, far = np.arange(b), np.arange(width)
    chosen = np.full((b, k), -1, np.int64)
    free, kept = pool.row >= 0, np.zeros((b, width), np.bool_)
    courses = [(rule, rule.begin(pool, k), np.zeros((b, min(k, width)), np.bool_)) for rule in rules]
    over = 0
    for place in range(min(k, width)):
        tier = np.zeros((b, width), np.int64)
        for rule, course, ever in courses:
            barred = course.barred(place) & free
            ever |= barred[:, :k]
            tier |= barred * rule.weight
        if gain is not None:
            tier[:, gain.head :] |= BEYOND
        # Who has no new product left gives the place away as if nothing were kept back.
        least = np.where(free, tier, CAPPED).min(axis=1)
        tier -= (tier & SPARE) * ((least >= SPARE) & (least < CAPPED))[:, None]
        key = -(tier * 1e9 + far)
        if gain is not None:
            key[:, : gain.head] = np.where(tier[:, : gain.head] > 0, key[:, : gain.head], gain.value(place))
        best = np.where(free, key, -np.inf).argmax(axis=1)
        some = free[users, best]
        over_cap = tier[users, best] >= CAPPED
        over += int((some & over_cap).sum())
        kept[users[some & ~over_cap], best[some & ~over_cap]] = True
        free[users[some], best[some]] = False
        chosen[:, place] = column = np.where(some, best, -1)
        for _, course, _ in courses:
            course.took(column)
        if gain is not None:
            gain.update(column)
    moved = {rule.name: int((ever & ~kept[:, :k]).sum()) for rule, _, ever in courses}
    return Selection(chosen, over, moved)
