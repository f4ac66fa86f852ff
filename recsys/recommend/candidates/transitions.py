"""Candidate source `transitions`: directed item-to-item transitions between events, near ones weighted more.

In: Interactions. Out: Candidates; the source item is the user's product that the candidate follows.
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

_MAX_EVENTS_AHEAD = 40
"""Following events that are considered; bounds the cost of large baskets."""


class TransitionSource:
    """Sequential rules (Kamehkhosh et al. 2017): from each product to its successors, weighted 1 / steps apart.

    A step is a change of timestamp: products of one basket share a step and are not linked to each other.
    """

    name = "transitions"

    def __init__(
        self,
        interactions: Interactions,
        *,
        max_steps: int = 5,
        half_life_days: float = 365.0,
        n_neighbours: int = 300,
        max_history: int = 20,
        decay: float = 0.6,
    ) -> None:
        """Count the transitions.

        Args:
            interactions: training events.
            max_steps: largest number of steps between two linked events.
            half_life_days: days after which a transition counts half.
            n_neighbours: strongest successors stored per product.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
        """
        self.max_history, self.decay = max_history, decay
        self.neighbours = transition_shares(
            interactions, max_steps=max_steps, half_life_days=half_life_days, n_neighbours=n_neighbours
        )

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, max_items=self.max_history, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        return score_pairs(profile, self.neighbours, len(users), user, item)


def transition_shares(
    interactions: Interactions, *, max_steps: int, half_life_days: float, n_neighbours: int
) -> sparse.csr_matrix:
    """Return (n, n) float32: row i holds each product's share of the weighted transitions from product i.

    At most `n_neighbours` per row, the largest; see `TransitionSource` for the other parameters.
    """
    n = interactions.n_items
    no_return = np.flatnonzero(interactions.event_type != RETURN_CODE)
    user, item, time = interactions.user[no_return], interactions.item[no_return], interactions.time[no_return]
    if not len(user):
        return empty_neighbours(n)
    step = np.cumsum(np.r_[True, (np.diff(user) != 0) | (np.diff(time) != 0)])
    weight = np.minimum(interactions.weight[no_return], 1.0) * 0.5 ** ((time.max() - time) / (half_life_days * DAY))
    total = empty_neighbours(n).astype(np.float64)
    for n_ahead in range(1, min(_MAX_EVENTS_AHEAD, len(user) - 1) + 1):
        n_steps = step[n_ahead:] - step[:-n_ahead]
        same_user_other_item = (user[n_ahead:] == user[:-n_ahead]) & (item[n_ahead:] != item[:-n_ahead])
        pairs = np.flatnonzero(same_user_other_item & (n_steps >= 1) & (n_steps <= max_steps))
        if not len(pairs) and not (user[n_ahead:] == user[:-n_ahead]).any():
            break
        value = weight[pairs + n_ahead] / n_steps[pairs]
        total = total + sparse.csr_matrix((value, (item[pairs], item[pairs + n_ahead])), shape=(n, n))
    entries = total.tocoo()
    row_sum = np.asarray(total.sum(axis=1)).ravel()
    share = entries.data / row_sum[entries.row]
    row, column = entries.row.astype(np.int64), entries.col.astype(np.int64)
    return top_k_per_row(row, column, share.astype(np.float32), n, k=n_neighbours)
