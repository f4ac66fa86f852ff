"""Recommendations of a batch of users as flat arrays, before product rows are mapped to ids.

In: candidates selected by the ranker, and backfilled products. Out: `Recommendations`, by user and rank.
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
    """m recommendations for b users, by user and rank.

    Attributes:
        user: (m,) position of the user in the batch.
        rank: (m,) 1..k.
        item: (m,) product row.
        score: (m,) float32, non-increasing within a user; see `non_increasing_scores` for re-ranked lists.
        source: (m,) position of the source that contributes most to the score.
        source_item: (m,) row of the product that led that source to the item, -1 = none.
        event_type: (m,) code of the user's event with the source item, or of the latest event of the last days if there
            is no source item; -1 = no event.
    """

    user: IntArray
    rank: IntArray
    item: IntArray
    score: FloatArray
    source: IntArray
    source_item: IntArray
    event_type: IntArray

    @staticmethod
    def concat(parts: Sequence[Recommendations]) -> Recommendations:
        """Concatenate parts of different users, in the given order."""
        if not parts:
            empty = np.zeros(0, np.int64)
            return Recommendations(empty, empty, empty, np.zeros(0, np.float32), empty, empty, empty)
        return Recommendations(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Recommendations))
        )

    @staticmethod
    def merge(parts: Sequence[Recommendations]) -> Recommendations:
        """Merge parts of the same users: by user, descending score, lower row; ranks are recomputed."""
        merged = Recommendations.concat(parts)
        order = np.lexsort((merged.item, -merged.score, merged.user))
        by_user = merged.user[order]
        rank = np.arange(len(order)) - np.searchsorted(by_user, by_user) + 1
        return Recommendations(
            by_user,
            rank,
            merged.item[order],
            merged.score[order],
            merged.source[order],
            merged.source_item[order],
            merged.event_type[order],
        )

    def take(self, rows: IntArray) -> Recommendations:
        """Return the recommendations at `rows`, in that order."""
        return Recommendations(*(getattr(self, field.name)[rows] for field in fields(Recommendations)))

    def with_user_offset(self, start: int) -> Recommendations:
        """Return the same recommendations with `start` added to the positions of the users."""
        other_columns = (getattr(self, field.name) for field in fields(Recommendations)[1:])
        return Recommendations(self.user + start, *other_columns)


def non_increasing_scores(score: FloatArray, item: IntArray) -> FloatArray:
    """Adjust the scores of re-ranked lists so that they do not increase along a list: (b, k) float32.

    A product ranked below one of a lower score gets the next float below that score. The order of the scores is then
    the order of the ranks, and lists in the ranker's order do not change.

    Args:
        score: (b, k) float32 of the ranker, -inf where there is no product.
        item: (b, k) product rows; among equal scores the lower row comes first.
    """
    out = score.copy()
    for position in range(1, out.shape[1]):
        previous, current = out[:, position - 1], out[:, position]
        too_high = np.isfinite(current) & (
            (current > previous) | ((current == previous) & (item[:, position] < item[:, position - 1]))
        )
        out[too_high, position] = np.nextafter(previous[too_high], np.float32(-np.inf))
    return out


def explaining_event_types(
    histories: Histories, user: IntArray, source_item: IntArray, *, since: float = 0
) -> IntArray:
    """Return the type of each user's event with the source item: (m,) code.

    A purchase takes precedence over all other types; otherwise the latest event that is not a return. Where the source
    item is -1, all events of the user from `since` (UTC seconds) on count. -1 where there is no such event.
    """
    is_recent = (source_item[:, None] < 0) & (histories.times[user] >= since)
    same_item = (histories.items[user] == source_item[:, None]) | is_recent
    event_types = histories.event_types[user].astype(np.int64)
    event_mask = same_item & histories.mask[user] & (event_types != RETURN_CODE)
    latest_column = event_mask.shape[1] - 1 - event_mask[:, ::-1].argmax(axis=1)
    latest_type = event_types[np.arange(len(user)), latest_column]
    bought = (event_mask & (event_types == PURCHASE_CODE)).any(axis=1)
    return np.where(bought, PURCHASE_CODE, np.where(event_mask.any(axis=1), latest_type, -1))
