"""What others did next: directed steps from one product to another, the near step counting more.

In: Interactions. Out: Candidates, each with the product it follows.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.data.interactions import Interactions
from recsys.data.schema import DAY, RETURN_CODE
from recsys.recommend.candidates.item_knn import (
    build_user_profile,
    empty_neighbours,
    retrieve_neighbours,
    score_pairs,
    top_k_per_row,
)
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray

_EVENTS = 40
"""Events ahead that are looked at, so that a basket of any size stays cheap."""


class TransitionSource:
    """Sequential rules (Kamehkhosh et al. 2017): from each product to what came after it, 1 / steps between them.

    A step is a change of moment: products of one basket stand on the same step and lead to none of each other.
    """

    name = "transitions"

    def __init__(
        self,
        interactions: Interactions,
        *,
        steps: int = 5,
        half_life_days: float = 365.0,
        neighbours: int = 300,
        last: int = 20,
        decay: float = 0.6,
    ) -> None:
        """Count the steps.

        Args:
            interactions: what may be learned from.
            steps: moments ahead that count.
            half_life_days: a step counts half after so many days.
            neighbours: kept of each product, the strongest.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.last, self.decay = last, decay
        self.neighbours = transition_shares(interactions, steps=steps, half_life_days=half_life_days, keep=neighbours)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, last=self.last, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        return score_pairs(signs, self.neighbours, len(users), user, item)


def transition_shares(interactions: Interactions, *, steps: int, half_life_days: float, keep: int) -> sparse.csr_matrix:
    """(n, n) float32: row i holds the share of each product among what followed product i, the `keep` largest."""
    n = interactions.n_items
    kept = np.flatnonzero(interactions.event_type != RETURN_CODE)
    user, item, time = interactions.user[kept], interactions.item[kept], interactions.time[kept]
    if not len(user):
        return empty_neighbours(n)
    step = np.cumsum(np.r_[True, (np.diff(user) != 0) | (np.diff(time) != 0)])
    worth = np.minimum(interactions.weight[kept], 1.0) * 0.5 ** ((time.max() - time) / (half_life_days * DAY))
    whole = empty_neighbours(n).astype(np.float64)
    for ahead in range(1, min(_EVENTS, len(user) - 1) + 1):
        between = step[ahead:] - step[:-ahead]
        same = (user[ahead:] == user[:-ahead]) & (item[ahead:] != item[:-ahead])
        pairs = np.flatnonzero(same & (between >= 1) & (between <= steps))
        if not len(pairs) and not (user[ahead:] == user[:-ahead]).any():
            break
        value = worth[pairs + ahead] / between[pairs]
        whole = whole + sparse.csr_matrix((value, (item[pairs], item[pairs + ahead])), shape=(n, n))
    found = whole.tocoo()
    out = np.asarray(whole.sum(axis=1)).ravel()
    share = found.data / out[found.row]
    return top_k_per_row(found.row.astype(np.int64), found.col.astype(np.int64), share.astype(np.float32), n, keep=keep)
