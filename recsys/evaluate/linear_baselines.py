"""Linear baselines of the user-product matrix: EASE in closed form, and implicit ALS.

In: the data before the cutoff. Out: scorers as in `baselines`.

The code is independent of the package's retrieval code, so that a bug there cannot repeat here.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from recsys.data.interactions import Histories, Interactions
from recsys.errors import DataContractError
from recsys.evaluate.baselines import Scorer, history_weights, purchase_matrix
from recsys.types import DoubleArray, FloatArray, IntArray

MAX_EASE_PRODUCTS = 15_000
"""Most products of an EASE model: their square matrix is inverted, 0.9 GB and minutes of one core at this size."""
_MAX_CELLS = 500_000
_TILE_SIZE = 1024


def select_ease_products(interactions: Interactions, *, max_products: int = MAX_EASE_PRODUCTS) -> IntArray:
    """Select the at most `max_products` products with the most buyers for EASE, ascending rows."""
    n_buyers = np.asarray(purchase_matrix(interactions).sum(axis=0)).ravel()
    order = np.lexsort((np.arange(len(n_buyers)), -n_buyers))
    return np.sort(order[: min(max_products, int((n_buyers > 0).sum()))])


def ease(
    interactions: Interactions,
    *,
    regularization: float = 150.0,
    decay: float = 0.8,
    max_products: int = MAX_EASE_PRODUCTS,
) -> Scorer:
    """EASE: ridge regression of each purchase on the user's other purchases, zero diagonal (Steck 2019).

    B = I - P diag(P)^-1 with P = (X'X + regularization I)^-1.

    Args:
        interactions: the training events.
        regularization: ridge.
        decay: factor on the weight of each product further back in the history.
        max_products: products at most; the others score 0.
    """
    items = select_ease_products(interactions, max_products=max_products)
    user_items = purchase_matrix(interactions)[:, items]
    gram = np.asarray((user_items.T @ user_items).todense(), np.float32)
    gram[np.diag_indices(len(items))] += np.float32(regularization)
    weights = invert(gram)
    weights /= -np.diag(weights).copy()
    weights[np.diag_indices(len(items))] = 0.0

    def scores(histories: Histories) -> DoubleArray:
        out = np.zeros((len(histories), interactions.n_items))
        # a query in a wider precision than the weights would copy all of them
        out[:, items] = history_weights(histories, interactions.n_items, decay).astype(np.float32)[:, items] @ weights
        return out

    return scores


def invert(gram: FloatArray) -> FloatArray:
    """Invert a symmetric positive definite matrix by Cholesky, in place where LAPACK can: (m, m).

    Raises:
        DataContractError: the matrix is not positive definite.
    """
    if not len(gram):
        return gram
    # the transpose of a symmetric matrix is the matrix itself, in the memory order LAPACK uses without a copy
    inverted, failed = lapack.spotrf(gram.T, lower=True, overwrite_a=True)
    if not failed:
        inverted, failed = lapack.spotri(inverted, lower=True, overwrite_c=True)
    if failed:
        raise DataContractError("EASE: X'X cannot be inverted; raise its regularization, or leave it out with --models")
    # LAPACK fills only the lower triangle
    for start in range(0, len(inverted), _TILE_SIZE):
        stop = min(start + _TILE_SIZE, len(inverted))
        inverted[start:stop, stop:] = inverted[stop:, start:stop].T
        lower = np.tril(inverted[start:stop, start:stop])
        inverted[start:stop, start:stop] = lower + np.tril(lower, -1).T
    return np.asarray(inverted)


def als(
    interactions: Interactions,
    *,
    factors: int = 64,
    alpha: float = 10.0,
    regularization: float = 1.0,
    sweeps: int = 10,
    seed: int = 0,
) -> Scorer:
    """Implicit ALS: alternating weighted least squares (Hu, Koren & Volinsky 2008).

    Each cell of the user-product matrix is 1 with confidence 1 + alpha if bought, else 0 with confidence 1. The least
    squares are solved by a few conjugate gradient steps from the previous sweep's solution (Takács, Pilászy & Tikk
    2011). A user's factors are folded in from the history, so that users without training events have some too.

    Args:
        interactions: the training events.
        factors: f.
        alpha: added to the confidence by a purchase.
        regularization: ridge on the factors.
        sweeps: over users and products.
        seed: of the products' initial factors.
    """
    user_items = purchase_matrix(interactions)
    user_items = user_items[np.diff(user_items.indptr) > 0]
    item_users = sparse.csr_matrix(user_items.T)
    # drawn for bought products alone: the others must not change what is learned
    bought = np.flatnonzero(np.diff(item_users.indptr))
    items = np.zeros((user_items.shape[1], factors), np.float32)
    items[bought] = np.random.default_rng(seed).normal(0, factors**-0.5, (len(bought), factors))
    users = np.zeros((user_items.shape[0], factors), np.float32)
    for _ in range(sweeps):
        users = conjugate_gradient(user_items, items, initial=users, alpha=alpha, regularization=regularization)
        items = conjugate_gradient(item_users, users, initial=items, alpha=alpha, regularization=regularization)

    def scores(histories: Histories) -> DoubleArray:
        history = history_weights(histories, interactions.n_items, 1.0).astype(np.float32)
        zeros = np.zeros((len(histories), factors), np.float32)
        folded_in = conjugate_gradient(
            history, items, initial=zeros, alpha=alpha, regularization=regularization, steps=20
        )
        return np.asarray(folded_in @ items.T, np.float64)

    return scores


def conjugate_gradient(
    pairs: sparse.csr_matrix,
    fixed_factors: FloatArray,
    *,
    initial: FloatArray,
    alpha: float,
    regularization: float,
    steps: int = 3,
) -> FloatArray:
    """Solve (O'O + alpha O'_row O_row + regularization I) x = (1 + alpha) sum O_row for all rows at once.

    Args:
        pairs: (b, m) ones.
        fixed_factors: (m, f) factors of the other side, which are fixed.
        initial: (b, f) initial solution.
        alpha: added to the confidence by a pair.
        regularization: ridge.
        steps: of conjugate gradients; f steps solve the system exactly.

    Returns:
        (b, f), zeros for a row without a pair.
    """
    gram = fixed_factors.T @ fixed_factors + np.float32(regularization) * np.eye(
        fixed_factors.shape[1], dtype=np.float32
    )
    row = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))

    def multiply(x: FloatArray) -> FloatArray:
        inner = np.empty(len(row), np.float32)
        for first in range(0, len(row), _MAX_CELLS):
            block = slice(first, first + _MAX_CELLS)
            inner[block] = np.einsum("mf,mf->m", x[row[block]], fixed_factors[pairs.indices[block]])
        weighted = sparse.csr_matrix((inner * np.float32(alpha), pairs.indices, pairs.indptr), shape=pairs.shape)
        return np.asarray(x @ gram + weighted @ fixed_factors, np.float32)

    x = np.where((np.diff(pairs.indptr) > 0)[:, None], initial, np.float32(0))
    residual = np.asarray((1 + alpha) * (pairs @ fixed_factors), np.float32) - multiply(x)
    direction, squared_norm = residual.copy(), (residual * residual).sum(axis=1)
    tiny = np.float32(1e-20)
    for _ in range(steps):
        product = multiply(direction)
        step = squared_norm / np.maximum((direction * product).sum(axis=1), tiny)
        x = x + step[:, None] * direction
        residual = residual - step[:, None] * product
        previous, squared_norm = squared_norm, (residual * residual).sum(axis=1)
        direction = residual + (squared_norm / np.maximum(previous, tiny))[:, None] * direction
    return np.asarray(x, np.float32)
