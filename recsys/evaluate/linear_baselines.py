"""Two linear models of who bought what: EASE in closed form, and implicit ALS.

In: what was before the cut. Out: scorers as in `baselines`.

Written without the rooms' own scoring code, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from recsys.data.interactions import Histories, Interactions
from recsys.errors import DataContractError
from recsys.evaluate.baselines import Scorer, history_weights, matrix
from recsys.types import DoubleArray, FloatArray, IntArray

MOST = 15_000
"""Products EASE is made for: their square is inverted, 0.9 GB and some minutes of one core at this size."""
_BLOCK = 500_000
_MIRROR = 1024


def ease_products(interactions: Interactions, *, most: int = MOST) -> IntArray:
    """The products EASE knows: all that were bought, or the `most` bought by most users; ascending rows."""
    users = np.asarray(matrix(interactions).sum(axis=0)).ravel()
    order = np.lexsort((np.arange(len(users)), -users))
    return np.sort(order[: min(most, int((users > 0).sum()))])


def ease(interactions: Interactions, *, regularization: float = 150.0, decay: float = 0.8, most: int = MOST) -> Scorer:
    """Item-item weights that give each purchase from the user's others by ridge regression, diagonal 0 (Steck 2019).

    B = I - P diag(P)^-1 with P = (X'X + regularization I)^-1.

    Args:
        interactions: what may be learned from.
        regularization: ridge.
        decay: weight of each further product back in the history.
        most: products at most; of the others nothing is said.
    """
    items = ease_products(interactions, most=most)
    bought = matrix(interactions)[:, items]
    gram = np.asarray((bought.T @ bought).todense(), np.float32)
    gram[np.diag_indices(len(items))] += np.float32(regularization)
    weights = inverse(gram)
    weights /= -np.diag(weights).copy()
    weights[np.diag_indices(len(items))] = 0.0

    def scores(histories: Histories) -> DoubleArray:
        out = np.zeros((len(histories), interactions.n_items))
        # in the weights' own precision: a wider query would copy all of them
        out[:, items] = history_weights(histories, interactions.n_items, decay).astype(np.float32)[:, items] @ weights
        return out

    return scores


def inverse(gram: FloatArray) -> FloatArray:
    """Inverse of a symmetric positive definite matrix by Cholesky, in place of it where LAPACK can: (m, m).

    Raises:
        DataContractError: the matrix is not positive definite.
    """
    if not len(gram):
        return gram
    # the transpose of a symmetric matrix is itself, in the order of memory LAPACK works in without a copy
    held, failed = lapack.spotrf(gram.T, lower=True, overwrite_a=True)
    if not failed:
        held, failed = lapack.spotri(held, lower=True, overwrite_c=True)
    if failed:
        raise DataContractError("EASE: X'X cannot be inverted; raise its regularization, or leave it out with --models")
    for start in range(0, len(held), _MIRROR):
        stop = min(start + _MIRROR, len(held))
        held[start:stop, stop:] = held[stop:, start:stop].T
        corner = np.tril(held[start:stop, start:stop])
        held[start:stop, start:stop] = corner + np.tril(corner, -1).T
    return np.asarray(held)


def als(
    interactions: Interactions,
    *,
    factors: int = 64,
    alpha: float = 10.0,
    regularization: float = 1.0,
    sweeps: int = 10,
    seed: int = 0,
) -> Scorer:
    """Factors of users and products by alternating weighted least squares (Hu, Koren & Volinsky 2008).

    Each cell of who bought what is 1 with confidence 1 + alpha where bought, else 0 with confidence 1. The least
    squares are solved by a few steps of conjugate gradients from the last sweep's solution (Takács, Pilászy & Tikk
    2011). A user is folded in from the history: the factors that fit its products, so that users not learned from have
    some too.

    Args:
        interactions: what may be learned from.
        factors: f.
        alpha: what a purchase adds to the confidence.
        regularization: ridge on the factors.
        sweeps: over users and products.
        seed: of the products' first factors.
    """
    bought = matrix(interactions)
    bought = bought[np.diff(bought.indptr) > 0]
    across = sparse.csr_matrix(bought.T)
    items = np.random.default_rng(seed).normal(0, factors**-0.5, (bought.shape[1], factors)).astype(np.float32)
    items[np.diff(across.indptr) == 0] = 0.0
    users = np.zeros((bought.shape[0], factors), np.float32)
    for _ in range(sweeps):
        users = conjugate_gradient(bought, items, start=users, alpha=alpha, regularization=regularization)
        items = conjugate_gradient(across, users, start=items, alpha=alpha, regularization=regularization)

    def scores(histories: Histories) -> DoubleArray:
        own = history_weights(histories, interactions.n_items, 1.0).astype(np.float32)
        nobody = np.zeros((len(histories), factors), np.float32)
        mine = conjugate_gradient(own, items, start=nobody, alpha=alpha, regularization=regularization, steps=20)
        return np.asarray(mine @ items.T, np.float64)

    return scores


def conjugate_gradient(
    pairs: sparse.csr_matrix,
    other: FloatArray,
    *,
    start: FloatArray,
    alpha: float,
    regularization: float,
    steps: int = 3,
) -> FloatArray:
    """Conjugate gradients for all rows at once on (O'O + alpha O'_row O_row + regularization I) x = (1 + alpha) sum O.

    Args:
        pairs: (b, m) ones.
        other: (m, f), the side that stands still.
        start: (b, f) first guess.
        alpha: what a pair adds to the confidence.
        regularization: ridge.
        steps: of conjugate gradients; f steps solve it exactly.

    Returns:
        (b, f), zeros for a row without a pair.
    """
    gram = other.T @ other + np.float32(regularization) * np.eye(other.shape[1], dtype=np.float32)
    row = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))

    def applied(x: FloatArray) -> FloatArray:
        inner = np.empty(len(row), np.float32)
        for at in range(0, len(row), _BLOCK):
            some = slice(at, at + _BLOCK)
            inner[some] = np.einsum("mf,mf->m", x[row[some]], other[pairs.indices[some]])
        weighted = sparse.csr_matrix((inner * np.float32(alpha), pairs.indices, pairs.indptr), shape=pairs.shape)
        return np.asarray(x @ gram + weighted @ other, np.float32)

    x = np.where((np.diff(pairs.indptr) > 0)[:, None], start, np.float32(0))
    left = np.asarray((1 + alpha) * (pairs @ other), np.float32) - applied(x)
    along, size = left.copy(), (left * left).sum(axis=1)
    tiny = np.float32(1e-20)
    for _ in range(steps):
        ahead = applied(along)
        step = size / np.maximum((along * ahead).sum(axis=1), tiny)
        x = x + step[:, None] * along
        left = left - step[:, None] * ahead
        before, size = size, (left * left).sum(axis=1)
        along = left + (size / np.maximum(before, tiny))[:, None] * along
    return np.asarray(x, np.float32)
