"""Backfill short lists with popular products: the last fallback when the candidates do not fill k positions.

In: recommendations, some lists shorter than k; products by popularity; pairs the hard rules exclude. Out: lists of k
products, or of all that are allowed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys.recommend.recommendations import Recommendations
from recsys.types import IntArray

_SCORE_STEP = 1e-3
"""Decrease of the score from one backfilled position to the next."""
_MAX_PAIRS = 1_000_000
"""(user, product) pairs checked at once; bounds memory."""


def backfill(
    recommendations: Recommendations,
    k: int,
    *,
    n_users: int,
    popular_items: IntArray,
    excluded: Callable[[], IntArray],
    n_items: int,
    popular_source: int,
) -> Recommendations:
    """Append the first products of `popular_items` that are neither in a short list nor excluded for its user.

    Args:
        recommendations: of b users.
        k: length of a full list.
        n_users: b.
        popular_items: product rows, the most popular first.
        excluded: returns the excluded pairs as position * n_items + product, in any order; called only if a list is
            short.
        n_items: products of the catalogue.
        popular_source: position of `popular` among the sources, for the reasons.
    """
    n_missing = k - np.bincount(recommendations.user, minlength=n_users)
    short_users = np.flatnonzero(n_missing > 0)
    if not len(short_users):
        return recommendations
    blocked = np.unique(np.concatenate([recommendations.user * n_items + recommendations.item, excluded()]))
    user, item, position = _first_allowed(popular_items, blocked, short_users, n_missing[short_users], k, n_items)
    min_score = np.full(n_users, np.inf)
    np.minimum.at(min_score, recommendations.user, recommendations.score)
    score = (np.where(np.isfinite(min_score), min_score, 0.0)[user] - _SCORE_STEP * position).astype(np.float32)
    no_index = np.full(len(user), -1, np.int64)
    return Recommendations.merge(
        [
            recommendations,
            Recommendations(user, position, item, score, np.full_like(no_index, popular_source), no_index, no_index),
        ]
    )


def _first_allowed(
    popular_items: IntArray, blocked: IntArray, users: IntArray, n_missing: IntArray, k: int, n_items: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return user, product and position 1.. of the products that fill each short list.

    Checks all short lists against a window of `popular_items` at once; lists that are still short move on to the next
    window.
    """
    n_filled = np.zeros(len(users), np.int64)
    parts: list[tuple[IntArray, IntArray, IntArray]] = []
    start, width = 0, 2 * k
    while len(users) and start < len(popular_items):
        window = popular_items[start : start + width]
        allowed = ~np.isin(users[:, None] * n_items + window, blocked)
        position = np.cumsum(allowed, axis=1) + n_filled[:, None]
        selected = allowed & (position <= n_missing[:, None])
        row, column = np.nonzero(selected)
        parts.append((users[row], window[column], position[row, column]))
        n_filled += selected.sum(axis=1)
        is_short = n_filled < n_missing
        users, n_missing, n_filled = users[is_short], n_missing[is_short], n_filled[is_short]
        start, width = start + width, max(2 * k, min(2 * width, _MAX_PAIRS // max(1, len(users))))
    empty = np.zeros(0, np.int64)
    if not parts:
        return empty, empty, empty
    user, item, position = (np.concatenate([empty, *columns]) for columns in zip(*parts, strict=True))
    return user, item, position
