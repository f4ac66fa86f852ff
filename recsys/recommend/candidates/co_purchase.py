"""What the same users bought: item-item cosine, shrunk and time-decayed, around the user's own products.

In: Interactions. Out: Candidates, each with the product it is bought together with.
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


class CoPurchaseSource:
    """Item-item neighbours (Sarwar et al. 2001), a basket counting less the larger it is (Karypis 2001)."""

    name = "co_purchase"

    def __init__(
        self,
        interactions: Interactions,
        *,
        shrinkage: float = 20.0,
        own_share: float = 0.8,
        half_life_days: float = 365.0,
        neighbours: int = 300,
        last: int = 30,
        decay: float = 0.9,
    ) -> None:
        """Count which products share users.

        Args:
            interactions: what may be learned from.
            shrinkage: added to the norm, so that a pair seen once is no strong pair.
            own_share: exponent of the count of the product bought; 1 - own_share is the candidate's. Above one half
                popular neighbours come first.
            half_life_days: a purchase counts half after so many days.
            neighbours: kept of each product, the strongest.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.last, self.decay = last, decay
        self.neighbours = cosine_neighbours(
            interactions, shrinkage=shrinkage, own_share=own_share, half_life_days=half_life_days, keep=neighbours
        )

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, last=self.last, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        return score_pairs(signs, self.neighbours, len(users), user, item)


def cosine_neighbours(
    interactions: Interactions, *, shrinkage: float, own_share: float, half_life_days: float, keep: int
) -> sparse.csr_matrix:
    """(n, n) float32: row i holds the `keep` products that share most users with product i, ties by lower row."""
    n = interactions.n_items
    kept = interactions.event_type != RETURN_CODE
    user, item, time = interactions.user[kept], interactions.item[kept], interactions.time[kept]
    worth = np.minimum(interactions.weight[kept], 1.0).astype(np.float64)
    newest = int(time.max(initial=0))
    worth *= 0.5 ** ((newest - time) / (half_life_days * DAY))
    # One entry a (user, product): the best of its events.
    order = np.lexsort((-worth, item, user))
    first = np.r_[True, (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)][: len(order)]
    user, item, worth = user[order][first], item[order][first], worth[order][first]
    bought = sparse.csr_matrix((np.sqrt(worth), (user, item)), shape=(interactions.n_users, n))
    size = np.diff(bought.indptr)
    count = np.asarray(bought.multiply(bought).sum(axis=0)).ravel()
    weighted = sparse.diags(1.0 / np.log2(1.0 + np.maximum(size, 1))) @ bought
    return _strongest(bought.T.tocsr(), weighted.tocsr(), count, (shrinkage, own_share, keep))


def _strongest(
    across: sparse.csr_matrix, weighted: sparse.csr_matrix, count: np.ndarray, how: tuple[float, float, int]
) -> sparse.csr_matrix:
    """Multiply in blocks of products, so that memory stays small, and keep each row's strongest."""
    shrinkage, own_share, keep = how
    n = across.shape[0]
    parts: list[sparse.csr_matrix] = []
    for start in range(0, n, 4096):
        block = (across[start : start + 4096] @ weighted).tocoo()
        row, col = block.row + start, block.col
        off = (row != col) & (block.data > 0)
        row, col, value = row[off], col[off], block.data[off]
        value = value / (count[row] ** own_share * count[col] ** (1 - own_share) + shrinkage)
        parts.append(top_k_per_row(row - start, col, value, n, keep=keep)[: min(4096, n - start)])
    return sparse.vstack(parts, format="csr") if parts else empty_neighbours(n)
