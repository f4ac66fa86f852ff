"""Sort scored pairs by user and descending score, or select the k best of each user, with integer-key sorts.

In: users and scores of pairs. Out: indices of the pairs in that order, or of each user's k best.
"""

from __future__ import annotations

import numpy as np

from recsys.types import FloatArray, IntArray

_MAX_USERS, _MAX_PAIRS_PER_USER = 1 << 15, 1 << 16
"""Users, and pairs of one user, that fit a 64-bit sort key beside a float32."""


def argsort_by_user_score(user: IntArray, score: FloatArray) -> IntArray:
    """Return the stable argsort of m pairs by user, then descending score: (m,) int64.

    User, score and position are packed into one integer and sorted by value (SIMD), which is faster than an argsort.

    Args:
        user: (m,) ascending, >= 0.
        score: (m,) no NaN.
    """
    if not len(user):
        return np.zeros(0, np.int64)
    n_users = int(user[-1]) + 1
    starts = np.searchsorted(user, np.arange(n_users + 1))
    if n_users > _MAX_USERS or np.diff(starts).max() > _MAX_PAIRS_PER_USER:
        return np.lexsort((-score, user)).astype(np.int64)
    bits = (score.astype(np.float32) + np.float32(0)).view(np.int32)  # minus zero becomes zero
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # bits of negative floats are in reverse order
    descending = np.int64(np.iinfo(np.int32).max) - ascending
    position = np.arange(len(user)) - starts[user]
    key = np.sort((user << 48) | (descending << 16) | position)
    out: IntArray = starts[key >> 48] + (key & (_MAX_PAIRS_PER_USER - 1))
    return out


def top_k_per_user(user: IntArray, score: FloatArray, k: int) -> IntArray:
    """Return the indices of each user's k best pairs, ascending; ties go to the earlier pair.

    Args:
        user: (m,) ascending, >= 0.
        score: (m,) no NaN.
        k: pairs per user.
    """
    if not len(user):
        return np.zeros(0, np.int64)
    starts = np.searchsorted(user, np.arange(int(user[-1]) + 2))
    keep_mask = np.ones(len(user), np.bool_)
    for index in np.flatnonzero(np.diff(starts) > k).tolist():
        user_scores = score[starts[index] : starts[index + 1]]
        threshold = np.partition(user_scores, len(user_scores) - k)[len(user_scores) - k]
        user_mask = user_scores > threshold
        user_mask[np.flatnonzero(user_scores == threshold)[: k - int(user_mask.sum())]] = True
        keep_mask[starts[index] : starts[index + 1]] = user_mask
    return np.flatnonzero(keep_mask)
