"""Pairs in order: by user, falling score, then as they stood, in one sort of whole numbers.

In: users and scores of pairs. Out: places of the pairs in that order, or of the best of each user.
"""

from __future__ import annotations

import numpy as np

from recsys.types import FloatArray, IntArray

_USERS, _WIDTH = 1 << 15, 1 << 16
"""Users, and pairs of one, that a key of 64 bits has room for beside a float32."""


def argsort_by_user_score(user: IntArray, score: FloatArray) -> IntArray:
    """Places of m pairs by user, falling score, then as they stand: (m,) int64.

    User, score and place go into one number, so that they are sorted by value, several at once, and not by index.

    Args:
        user: (m,) ascending, 0 and more.
        score: (m,) no NaN.
    """
    if not len(user):
        return np.zeros(0, np.int64)
    users = int(user[-1]) + 1
    starts = np.searchsorted(user, np.arange(users + 1))
    if users > _USERS or np.diff(starts).max() > _WIDTH:
        return np.lexsort((-score, user)).astype(np.int64)
    bits = (score.astype(np.float32) + np.float32(0)).view(np.int32)  # minus zero is zero
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # bits of negative floats are in the wrong order
    falling = np.int64(np.iinfo(np.int32).max) - rising
    within = np.arange(len(user)) - starts[user]
    key = np.sort((user << 48) | (falling << 16) | within)
    out: IntArray = starts[key >> 48] + (key & (_WIDTH - 1))
    return out


def top_k_per_user(user: IntArray, score: FloatArray, k: int) -> IntArray:
    """Places of the k best pairs of each user, of equals the first, ascending.

    Args:
        user: (m,) ascending, 0 and more.
        score: (m,) no NaN.
        k: pairs of a user.
    """
    if not len(user):
        return np.zeros(0, np.int64)
    starts = np.searchsorted(user, np.arange(int(user[-1]) + 2))
    kept = np.ones(len(user), np.bool_)
    for at in np.flatnonzero(np.diff(starts) > k).tolist():
        own = score[starts[at] : starts[at + 1]]
        bar = np.partition(own, len(own) - k)[len(own) - k]
        mine = own > bar
        mine[np.flatnonzero(own == bar)[: k - int(mine.sum())]] = True
        kept[starts[at] : starts[at + 1]] = mine
    return np.flatnonzero(kept)
