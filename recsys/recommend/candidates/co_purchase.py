"""Candidate source `co_purchase`: products bought by the same users (item-item cosine, shrunk and time-decayed).

In: Interactions. Out: Candidates; the source item is the user's product that the candidate is bought together with.
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

_BLOCK_ROWS = 4096
"""Products whose neighbours are computed per block; bounds memory."""


class CoPurchaseSource:
    """Item-item neighbours (Sarwar et al. 2001); a user counts less the more products they have (Karypis 2001)."""

    name = "co_purchase"

    def __init__(
        self,
        interactions: Interactions,
        *,
        shrinkage: float = 20.0,
        source_exponent: float = 0.8,
        half_life_days: float = 365.0,
        n_neighbours: int = 300,
        max_history: int = 30,
        decay: float = 0.9,
    ) -> None:
        """Compute the neighbours of each product.

        Args:
            interactions: training events.
            shrinkage: added to the norm, so that a pair seen once does not score high.
            source_exponent: exponent of the count of the product bought; 1 - source_exponent is the candidate's. Above
                0.5, popular neighbours rank higher.
            half_life_days: days after which a purchase counts half.
            n_neighbours: strongest neighbours stored per product.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
        """
        self.max_history, self.decay = max_history, decay
        self.neighbours = cosine_neighbours(
            interactions,
            shrinkage=shrinkage,
            source_exponent=source_exponent,
            half_life_days=half_life_days,
            n_neighbours=n_neighbours,
        )

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, max_items=self.max_history, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        return score_pairs(profile, self.neighbours, len(users), user, item)


def cosine_neighbours(
    interactions: Interactions, *, shrinkage: float, source_exponent: float, half_life_days: float, n_neighbours: int
) -> sparse.csr_matrix:
    """Return (n, n) float32: row i holds the most similar products of product i, ties by lower row.

    At most `n_neighbours` per row; the similarity is the shrunk cosine over users, see `CoPurchaseSource`.
    """
    n = interactions.n_items
    no_return = interactions.event_type != RETURN_CODE
    user, item, time = interactions.user[no_return], interactions.item[no_return], interactions.time[no_return]
    weight = np.minimum(interactions.weight[no_return], 1.0).astype(np.float64)
    newest = int(time.max(initial=0))
    weight *= 0.5 ** ((newest - time) / (half_life_days * DAY))
    # One entry per (user, product): the event of the largest weight.
    order = np.lexsort((-weight, item, user))
    first = np.r_[True, (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)][: len(order)]
    user, item, weight = user[order][first], item[order][first], weight[order][first]
    user_items = sparse.csr_matrix((np.sqrt(weight), (user, item)), shape=(interactions.n_users, n))
    n_items_per_user = np.diff(user_items.indptr)
    count = np.asarray(user_items.multiply(user_items).sum(axis=0)).ravel()
    weighted = sparse.diags(1.0 / np.log2(1.0 + np.maximum(n_items_per_user, 1))) @ user_items
    return _normalize_and_prune(
        user_items.T.tocsr(), weighted.tocsr(), count, (shrinkage, source_exponent, n_neighbours)
    )


def _normalize_and_prune(
    item_users: sparse.csr_matrix, weighted: sparse.csr_matrix, count: np.ndarray, params: tuple[float, float, int]
) -> sparse.csr_matrix:
    """Multiply in blocks of products, which bounds memory, and store the strongest neighbours of each row."""
    shrinkage, source_exponent, n_neighbours = params
    n = item_users.shape[0]
    parts: list[sparse.csr_matrix] = []
    for start in range(0, n, _BLOCK_ROWS):
        block = (item_users[start : start + _BLOCK_ROWS] @ weighted).tocoo()
        row, col = block.row + start, block.col
        off_diagonal = (row != col) & (block.data > 0)
        row, col, value = row[off_diagonal], col[off_diagonal], block.data[off_diagonal]
        value = value / (count[row] ** source_exponent * count[col] ** (1 - source_exponent) + shrinkage)
        parts.append(top_k_per_row(row - start, col, value, n, k=n_neighbours)[: min(_BLOCK_ROWS, n - start)])
    return sparse.vstack(parts, format="csr") if parts else empty_neighbours(n)
