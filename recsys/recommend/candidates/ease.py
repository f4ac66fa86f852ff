"""Candidate source `ease`: a closed-form linear item-item model that discounts what other products explain.

In: Interactions. Out: Candidates; the source item is the user's product that contributes most to the score.
"""

from __future__ import annotations

import logging

import numpy as np
from scipy import linalg, sparse

from recsys.data.interactions import Interactions
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.item_knn import (
    build_user_profile,
    empty_neighbours,
    retrieve_neighbours,
    score_pairs,
    top_k_per_row,
)
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray

log = logging.getLogger(__name__)
_BLOCK_ROWS = 2048
"""Rows of the weight matrix processed at once; bounds memory."""


class EaseSource:
    """EASE (Steck 2019): ridge regression of every product on all others, with the weights stored sparsely.

    The cost of the matrix inverse grows with the cube of the number of products, so in a large catalogue only the
    most bought products take part; other sources cover the rest.
    """

    name = "ease"

    def __init__(
        self,
        interactions: Interactions,
        *,
        ridge: float = 150.0,
        max_products: int = 15_000,
        n_neighbours: int = 300,
        max_history: int = 30,
        decay: float = 0.6,
    ) -> None:
        """Solve for the weights.

        Args:
            interactions: training events.
            ridge: penalty on the squared weights, in users.
            max_products: most bought products that take part; needs 4 * max_products ** 2 bytes.
            n_neighbours: largest weights stored per product.
            max_history: most recent products of a user that are used.
            decay: factor on the weight for each further product back.
        """
        self.max_history, self.decay = max_history, decay
        self.neighbours = fit_ease(interactions, ridge=ridge, max_products=max_products, n_neighbours=n_neighbours)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, max_items=self.max_history, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        profile = build_user_profile(users.histories, max_items=self.max_history, decay=self.decay)
        return score_pairs(profile, self.neighbours, len(users), user, item)


def fit_ease(interactions: Interactions, *, ridge: float, max_products: int, n_neighbours: int) -> sparse.csr_matrix:
    """Return (n, n) float32: row i holds the largest positive weights of product i on others.

    At most `n_neighbours` weights per row; see `EaseSource` for the other parameters.
    """
    n = interactions.n_items
    no_return = interactions.event_type != RETURN_CODE
    user, item = interactions.user[no_return], interactions.item[no_return]
    buyers = np.bincount(np.unique(item * interactions.n_users + user) // max(1, interactions.n_users), minlength=n)
    members = np.flatnonzero(buyers)
    if len(members) > max_products:
        log.info("ease: the %s most bought of %s products take part", f"{max_products:,}", f"{len(members):,}")
        members = np.sort(members[np.argsort(-buyers[members], kind="stable")[:max_products]])
    if len(members) < 2:
        return empty_neighbours(n)
    member_index = np.full(n, -1, np.int64)
    member_index[members] = np.arange(len(members))
    is_member = member_index[item] >= 0
    user_items = sparse.csr_matrix(
        (np.ones(int(is_member.sum()), np.float32), (user[is_member], member_index[item[is_member]])),
        shape=(interactions.n_users, len(members)),
    )
    user_items.data[:] = 1.0
    user_items.sum_duplicates()
    user_items.data[:] = 1.0
    inverse = _invert_in_place((user_items.T @ user_items).toarray(), ridge)
    scale = -1.0 / np.diagonal(inverse)
    rows, columns, values = [], [], []
    for start in range(0, len(members), _BLOCK_ROWS):
        block = inverse[start : start + _BLOCK_ROWS] * scale[None, :]
        block[np.arange(len(block)), start + np.arange(len(block))] = 0.0
        n_kept = min(n_neighbours, len(members) - 1)
        bound = np.partition(block, -n_kept, axis=1)[:, -n_kept]
        row, column = np.nonzero((block >= bound[:, None]) & (block > 0))
        rows.append(row + start)
        columns.append(column)
        values.append(block[row, column])
    row, column, value = (np.concatenate(part) for part in (rows, columns, values))
    return top_k_per_row(members[row], members[column], value, n, k=n_neighbours)


def _invert_in_place(gram: FloatArray, ridge: float) -> FloatArray:
    """Return the inverse of gram + ridge by an in-place Cholesky: half the work and memory of a general inverse."""
    gram[np.diag_indices(len(gram))] += ridge
    # A symmetric matrix equals its transpose: in column-major order, as LAPACK needs it, it is not copied.
    factor, _ = linalg.cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)
    inverse, info = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info:
        raise linalg.LinAlgError(f"ease: the co-purchase matrix cannot be inverted (info {info})")
    for start in range(0, len(inverse), _BLOCK_ROWS):
        stop = start + _BLOCK_ROWS
        corner = np.tril(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = corner + np.tril(corner, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    return np.asarray(inverse, np.float32)
