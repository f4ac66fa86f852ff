"""The last fallback: what is popular fills the places that no candidate took.

In: lists, some shorter than k; products by popularity; what the hard rules bar. Out: lists of k products, or of all
there are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys.recommend.recommendations import Recommendations
from recsys.types import IntArray

_STEP = 1e-3
"""What each filled place scores less than the one before."""
_KEYS = 1_000_000
"""Pairs looked at in one go; what bounds memory."""


def backfill(
    lists: Recommendations, k: int, *, users: int, order: IntArray, barred: Callable[[], IntArray], n: int, source: int
) -> Recommendations:
    """Fill short lists with the first of `order` that are neither in them nor barred.

    Args:
        lists: of b users.
        k: length they should have.
        users: b.
        order: product rows, the most popular first.
        barred: gives what may not be taken, as position * n + product, in any order; asked when a list is short.
        n: products of the catalogue.
        source: the place of `popular` among the sources, for the reasons.
    """
    missing = k - np.bincount(lists.user, minlength=users)
    short = np.flatnonzero(missing > 0)
    if not len(short):
        return lists
    taken = np.unique(np.concatenate([lists.user * n + lists.item, barred()]))
    user, item, place = _first(order, taken, short, missing[short], k, n)
    floor = np.full(users, np.inf)
    np.minimum.at(floor, lists.user, lists.score)
    score = (np.where(np.isfinite(floor), floor, 0.0)[user] - _STEP * place).astype(np.float32)
    none = np.full(len(user), -1, np.int64)
    return Recommendations.sorted(
        [lists, Recommendations(user, place, item, score, np.full_like(none, source), none, none)]
    )


def _first(
    order: IntArray, taken: IntArray, short: IntArray, missing: IntArray, k: int, n: int
) -> tuple[IntArray, IntArray, IntArray]:
    """User, product and number 1.. of what fills each short list; looks no further than needed.

    All short lists are walked at once along a window of `order`; who still misses products walks on.
    """
    got = np.zeros(len(short), np.int64)
    parts: list[tuple[IntArray, IntArray, IntArray]] = []
    start, width = 0, 2 * k
    while len(short) and start < len(order):
        some = order[start : start + width]
        free = ~np.isin(short[:, None] * n + some, taken)
        number = np.cumsum(free, axis=1) + got[:, None]
        take = free & (number <= missing[:, None])
        at, column = np.nonzero(take)
        parts.append((short[at], some[column], number[at, column]))
        got += take.sum(axis=1)
        on = got < missing
        short, missing, got = short[on], missing[on], got[on]
        start, width = start + width, max(2 * k, min(2 * width, _KEYS // max(1, len(short))))
    none = np.zeros(0, np.int64)
    user, item, place = (np.concatenate([none, *held]) for held in zip(*parts, strict=True)) if parts else (none,) * 3
    return user, item, place
