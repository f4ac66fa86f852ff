"""Ranked products of some users, as flat arrays: what a recommender makes before ids become texts.

In: places chosen by the blend, and places filled. Out: `Recommendations`, by user and rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from recsys.data.interactions import Histories
from recsys.data.schema import PURCHASE_CODE, RETURN_CODE
from recsys.types import FloatArray, IntArray


@dataclass(frozen=True)
class Recommendations:
    """m places in the lists of b users, by user and rank.

    Attributes:
        user: (m,) position of the user.
        rank: (m,) 1..k.
        item: (m,) product row.
        score: (m,) float32, falling along each list; see `non_increasing_scores` for lists that are not in the ranker's order.
        source: (m,) place of the source that weighed most.
        because: (m,) product row it stems from, -1 = none.
        kind: (m,) code of what the user did with that product, or lately where there is none; -1 = nothing.
    """

    user: IntArray
    rank: IntArray
    item: IntArray
    score: FloatArray
    source: IntArray
    because: IntArray
    kind: IntArray

    @staticmethod
    def concat(parts: Sequence[Recommendations]) -> Recommendations:
        """Parts of different users, in their order."""
        if not parts:
            none = np.zeros(0, np.int64)
            return Recommendations(none, none, none, np.zeros(0, np.float32), none, none, none)
        return Recommendations(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Recommendations))
        )

    @staticmethod
    def sorted(parts: Sequence[Recommendations]) -> Recommendations:
        """Parts of the same users: by user, falling score, lower row; ranks are counted anew."""
        whole = Recommendations.concat(parts)
        order = np.lexsort((whole.item, -whole.score, whole.user))
        by_user = whole.user[order]
        rank = np.arange(len(order)) - np.searchsorted(by_user, by_user) + 1
        return Recommendations(
            by_user,
            rank,
            whole.item[order],
            whole.score[order],
            whole.source[order],
            whole.because[order],
            whole.kind[order],
        )

    def take(self, rows: IntArray) -> Recommendations:
        """Some places, in the order of `rows`."""
        return Recommendations(*(getattr(self, field.name)[rows] for field in fields(Recommendations)))

    def with_user_offset(self, start: int) -> Recommendations:
        """The same with users counted from `start`."""
        rest = (getattr(self, field.name) for field in fields(Recommendations)[1:])
        return Recommendations(self.user + start, *rest)


def non_increasing_scores(score: FloatArray, item: IntArray) -> FloatArray:
    """Scores that fall along lists which rules or diversity have rearranged: (b, k) float32.

    A product that stands below one of a lower score gets that one's score, a hair less. So a score says how a product
    stands in its list, the order of scores is the order of ranks, and lists in the ranker's order stay as they are.

    Args:
        score: (b, k) float32 of the ranker, -inf where there is no product.
        item: (b, k) product rows; among equal scores the lower row comes first.
    """
    out = score.copy()
    for place in range(1, out.shape[1]):
        before, own = out[:, place - 1], out[:, place]
        risen = np.isfinite(own) & ((own > before) | ((own == before) & (item[:, place] < item[:, place - 1])))
        out[risen, place] = np.nextafter(before[risen], np.float32(-np.inf))
    return out


def explaining_event_types(histories: Histories, user: IntArray, because: IntArray) -> IntArray:
    """What each user did with a product (m,): bought it before all else, or the newest event that is no return.

    Where `because` is -1: the same of everything the user did. -1 where there is no such event.
    """
    same = (histories.items[user] == because[:, None]) | (because[:, None] < 0)
    kinds = histories.event_types[user].astype(np.int64)
    counts = same & histories.mask[user] & (kinds != RETURN_CODE)
    newest = counts.shape[1] - 1 - counts[:, ::-1].argmax(axis=1)
    last = kinds[np.arange(len(user)), newest]
    bought = (counts & (kinds == PURCHASE_CODE)).any(axis=1)
    return np.where(bought, PURCHASE_CODE, np.where(counts.any(axis=1), last, -1))
