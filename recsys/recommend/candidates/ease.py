"""A linear model of all products at once, in closed form: what is bought beside what, other products discounted.

In: Interactions. Out: Candidates, each with the product that speaks for it most.
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
_ROWS = 2048


class EaseSource:
    """EASE (Steck 2019): ridge regression of every product on all others, its weights kept sparse.

    The inverse it needs grows with the cube of the products, so that of a large catalogue only the most bought take
    part; the others have sources of their own.
    """

    name = "ease"

    def __init__(
        self,
        interactions: Interactions,
        *,
        ridge: float = 150.0,
        products: int = 15_000,
        neighbours: int = 300,
        last: int = 30,
        decay: float = 0.6,
    ) -> None:
        """Solve for the weights.

        Args:
            interactions: what may be learned from.
            ridge: penalty on the squared weights, in users.
            products: that take part at most, the most bought; 4 * products ** 2 bytes are needed.
            neighbours: weights kept of each product, the largest.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.last, self.decay = last, decay
        self.neighbours = fit_ease(interactions, ridge=ridge, products=products, keep=neighbours)

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        return retrieve_neighbours(
            build_user_profile(users.histories, last=self.last, decay=self.decay), self.neighbours, k
        )

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        signs = build_user_profile(users.histories, last=self.last, decay=self.decay)
        return score_pairs(signs, self.neighbours, len(users), user, item)


def fit_ease(interactions: Interactions, *, ridge: float, products: int, keep: int) -> sparse.csr_matrix:
    """(n, n) float32: row i holds what product i adds to the score of others, the `keep` largest positive ones."""
    n = interactions.n_items
    kept = interactions.event_type != RETURN_CODE
    user, item = interactions.user[kept], interactions.item[kept]
    buyers = np.bincount(np.unique(item * interactions.n_users + user) // max(1, interactions.n_users), minlength=n)
    members = np.flatnonzero(buyers)
    if len(members) > products:
        log.info("ease: the %s most bought of %s products take part", f"{products:,}", f"{len(members):,}")
        members = np.sort(members[np.argsort(-buyers[members], kind="stable")[:products]])
    if len(members) < 2:
        return empty_neighbours(n)
    place = np.full(n, -1, np.int64)
    place[members] = np.arange(len(members))
    inside = place[item] >= 0
    bought = sparse.csr_matrix(
        (np.ones(int(inside.sum()), np.float32), (user[inside], place[item[inside]])),
        shape=(interactions.n_users, len(members)),
    )
    bought.data[:] = 1.0
    bought.sum_duplicates()
    bought.data[:] = 1.0
    precise = _inverse((bought.T @ bought).toarray(), ridge)
    scale = -1.0 / np.diagonal(precise)
    rows, columns, values = [], [], []
    for start in range(0, len(members), _ROWS):
        block = precise[start : start + _ROWS] * scale[None, :]
        block[np.arange(len(block)), start + np.arange(len(block))] = 0.0
        most = min(keep, len(members) - 1)
        bound = np.partition(block, -most, axis=1)[:, -most]
        row, column = np.nonzero((block >= bound[:, None]) & (block > 0))
        rows.append(row + start)
        columns.append(column)
        values.append(block[row, column])
    whole = (np.concatenate(part) for part in (rows, columns, values))
    row, column, value = whole
    return top_k_per_row(members[row], members[column], value, n, keep=keep)


def _inverse(gram: FloatArray, ridge: float) -> FloatArray:
    """The inverse of gram + ridge, by Cholesky in place: half the work and memory of the general way."""
    gram[np.diag_indices(len(gram))] += ridge
    # A symmetric matrix is its own transpose: read in columns, as LAPACK wants it, it need not be copied.
    factor, _ = linalg.cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)
    inverse, info = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info:
        raise linalg.LinAlgError(f"ease: the co-purchase matrix cannot be inverted (info {info})")
    for start in range(0, len(inverse), _ROWS):
        stop = start + _ROWS
        corner = np.tril(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = corner + np.tril(corner, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    return np.asarray(inverse, np.float32)
