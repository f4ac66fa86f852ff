"""Baseline recommenders: popularity, repurchase, item-item kNN, TF-IDF, and combinations of them.

In: the data before the cutoff. Out: callables (histories, k) -> (b, k) product rows, best first, -1 = empty.

The code is dense and independent of the package's retrieval code, so that a bug there cannot repeat here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from recsys.data.catalogue import Catalogue
from recsys.data.holdout import take_histories
from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.data.tfidf import product_tfidf
from recsys.types import BoolArray, DoubleArray, IntArray

Scorer = Callable[[Histories], DoubleArray]
"""Maps histories of b users to (b, n) scores; -inf = must not be listed, 0 or less = not recommended."""
System = Callable[[Histories, int], IntArray]


def purchase_events(interactions: Interactions) -> Interactions:
    """Return the purchase events."""
    return interactions.where(interactions.event_type == PURCHASE_CODE)


def purchase_matrix(interactions: Interactions) -> sparse.csr_matrix:
    """Build the binary user-product matrix of purchases, repeats counted once: (u, n) float32."""
    bought = purchase_events(interactions)
    user_items = sparse.csr_matrix(
        (np.ones(len(bought), np.float32), (bought.user, bought.item)), shape=(bought.n_users, bought.n_items)
    )
    user_items.data[:] = 1.0
    return user_items


def popularity(interactions: Interactions, *, days: float | None = None, now: int | None = None) -> Scorer:
    """Score products by their customers, in the last `days` days before `now` if both are given.

    A customer with c purchases of a product counts 1 + ln(c) / 4.
    """
    bought = purchase_events(interactions)
    if days is not None and now is not None:
        bought = bought.where(bought.time >= now - int(days * DAY))
    pairs, n_purchases = np.unique(bought.user * bought.n_items + bought.item, return_counts=True)
    counts = np.bincount(pairs % max(1, bought.n_items), 1 + np.log(n_purchases) / 4, minlength=bought.n_items)
    counts = counts.astype(np.float64)  # integers if there are none
    return lambda histories: np.tile(counts, (len(histories), 1))


def repurchase(n_items: int) -> Scorer:
    """Score the products of the user's own events of any type, the latest first."""

    def scores(histories: Histories) -> DoubleArray:
        out = np.zeros((len(histories), n_items))
        for position in range(histories.items.shape[1]):
            rows = np.flatnonzero(histories.items[:, position] >= 0)
            out[rows, histories.items[rows, position]] = position + 1.0
        return out

    return scores


def item_knn(interactions: Interactions, *, shrinkage: float = 10.0, decay: float = 0.8) -> Scorer:
    """Item-item kNN: shrunk cosine over users (Sarwar et al. 2001).

    The cosines are summed over the history, each weighted by decay ** p for the p-th product back.
    """
    user_items = purchase_matrix(interactions)
    n_buyers = np.asarray(user_items.sum(axis=0)).ravel()
    shared = (user_items.T @ user_items).tocoo()
    off_diagonal = shared.row != shared.col
    row, col = shared.row[off_diagonal], shared.col[off_diagonal]
    cosine = shared.data[off_diagonal] / (np.sqrt(n_buyers[row] * n_buyers[col]) + shrinkage)
    similarity = sparse.csr_matrix((cosine, (row, col)), shape=shared.shape)
    return lambda histories: np.asarray(
        (history_weights(histories, interactions.n_items, decay) @ similarity).todense(), np.float64
    )


def tfidf(catalogue: Catalogue, *, decay: float = 0.8, known: BoolArray | None = None) -> Scorer:
    """Score products by TF-IDF cosine with the history, which decays per item back.

    Args:
        catalogue: n products.
        decay: weight of an item against the one after it.
        known: (n,) products that words and document frequencies are counted in, see `product_tfidf`.
    """
    rows = product_tfidf(catalogue, fit_on=known)
    across = rows.T.tocsc()

    def scores(histories: Histories) -> DoubleArray:
        return np.asarray((history_weights(histories, len(catalogue), decay) @ rows @ across).todense(), np.float64)

    return scores


def chain(*scorers: Scorer) -> Scorer:
    """Chain scorers: products scored by an earlier scorer rank before those scored only by a later one."""

    def scores(histories: Histories) -> DoubleArray:
        out: DoubleArray | None = None
        for position, scorer in enumerate(scorers):
            scores = scorer(histories)
            top = scores.max(axis=1, keepdims=True)
            offset = 2.0 * (len(scorers) - position)
            shifted = np.where(scores > 0, scores / np.where(top > 0, top, 1.0) + offset, 0.0)
            out = shifted if out is None else np.maximum(out, shifted)
        assert out is not None
        return out

    return scores


def weighted_sum(parts: Sequence[tuple[float, Scorer]]) -> Scorer:
    """Sum the scorers' unscaled scores with weights."""

    def scores(histories: Histories) -> DoubleArray:
        return np.asarray(np.sum([weight * scorer(histories) for weight, scorer in parts], axis=0))

    return scores


def normalize_scores(scorer: Scorer) -> Scorer:
    """Divide each user's scores by the user's largest score."""

    def scores(histories: Histories) -> DoubleArray:
        out = scorer(histories)
        top = out.max(axis=1, keepdims=True)
        return np.asarray(out / np.where(top > 0, top, 1.0))

    return scores


def log1p_scores(scorer: Scorer) -> Scorer:
    """Transform scores to log(1 + score)."""
    return lambda histories: np.log1p(scorer(histories))


def to_ranked_lists(
    scorer: Scorer,
    *,
    exclude_purchased: bool,
    allowed: BoolArray | None = None,
    train: Interactions | None = None,
    batch_size: int = 256,
) -> System:
    """Turn scores into ranked lists of products with a score above 0, ties by lower row.

    Args:
        scorer: scores of all products.
        exclude_purchased: whether the products the user has bought are removed.
        allowed: (n,) bool, products that may be listed.
        train: the events before the lists. Histories hold the last events only: what a user bought before them, and
            what a user sent back, is looked up here.
        batch_size: users scored at once.
    """
    excluded = None if train is None else _excluded_products(train, purchased=exclude_purchased)

    def system(histories: Histories, k: int) -> IntArray:
        out = np.full((len(histories), k), -1, np.int64)
        for start in range(0, len(histories), batch_size):
            batch = take_histories(histories, np.arange(start, min(start + batch_size, len(histories))))
            scores = scorer(batch)
            if allowed is not None:
                scores[:, ~allowed] = -np.inf
            if exclude_purchased:
                user, column = np.nonzero(batch.mask & (batch.event_types == PURCHASE_CODE))
                scores[user, batch.items[user, column]] = -np.inf
            if excluded is not None:
                known = np.flatnonzero(batch.users >= 0)
                own = excluded[batch.users[known]].tocoo()
                scores[known[own.row], own.col] = -np.inf
            # Only scores that reach the k-th best, ties included, have to be sorted. Rows with few positive scores are
            # sorted without that threshold.
            threshold = np.zeros(len(batch))
            many = np.flatnonzero((scores > 0).sum(axis=1) > 8 * k)
            if len(many):
                threshold[many] = np.partition(scores[many], -k, axis=1)[:, -k]
            for row in range(len(batch)):
                items = np.flatnonzero((scores[row] >= threshold[row]) & (scores[row] > 0))
                best = items[np.argsort(-scores[row, items], kind="stable")[:k]]
                out[start + row, : len(best)] = best
        return out

    return system


def _excluded_products(train: Interactions, *, purchased: bool) -> sparse.csr_matrix:
    """Return the products that each user sent back and, if asked for, bought: (u, n), 1 = must not be listed."""
    user, item = train.returned_pairs()
    returned = sparse.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=(train.n_users, train.n_items))
    return (returned + purchase_matrix(train)).tocsr() if purchased else returned


def history_weights(histories: Histories, n_items: int, decay: float) -> sparse.csr_matrix:
    """Weight the history by decay ** p for the p-th product back, repeats at their newest one: (b, n)."""
    user, item, weight = [], [], []
    for row in range(len(histories)):
        items = histories.items[row][histories.mask[row]][::-1].tolist()
        for back, product in enumerate(dict.fromkeys(items)):
            user.append(row)
            item.append(product)
            weight.append(decay**back)
    return sparse.csr_matrix((weight, (user, item)), shape=(len(histories), n_items))
