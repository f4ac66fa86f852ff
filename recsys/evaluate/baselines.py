"""The plain systems ours must beat: popularity, repurchase, item-item, TF-IDF, and simple sums of them.

In: what was before the cut. Out: callables (histories, k) -> (b, k) product rows, best first, -1 = none.

Written dense and without the rooms' own scoring code, so that a mistake there cannot hide here.
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
"""Histories of b users to (b, n) scores; what must not be listed is -inf, 0 or less says nothing."""
System = Callable[[Histories, int], IntArray]


def purchases(interactions: Interactions) -> Interactions:
    """The purchases among the events."""
    return interactions.where(interactions.event_type == PURCHASE_CODE)


def matrix(interactions: Interactions) -> sparse.csr_matrix:
    """Who bought what, however often: (u, n) float32 of ones."""
    bought = purchases(interactions)
    pairs = sparse.csr_matrix(
        (np.ones(len(bought), np.float32), (bought.user, bought.item)), shape=(bought.n_users, bought.n_items)
    )
    pairs.data[:] = 1.0
    return pairs


def popular(interactions: Interactions, *, days: float | None = None, now: int | None = None) -> Scorer:
    """Purchases of each product, in the last `days` days before `now` if given."""
    bought = purchases(interactions)
    if days is not None and now is not None:
        bought = bought.where(bought.time >= now - int(days * DAY))
    counts = bought.counts().astype(np.float64)
    return lambda histories: np.tile(counts, (len(histories), 1))


def repurchase(n_items: int) -> Scorer:
    """The products of the user's events, bought or looked at, the latest first."""

    def scores(histories: Histories) -> DoubleArray:
        out = np.zeros((len(histories), n_items))
        for at in range(histories.items.shape[1]):
            rows = np.flatnonzero(histories.items[:, at] >= 0)
            out[rows, histories.items[rows, at]] = at + 1.0
        return out

    return scores


def item_item(interactions: Interactions, *, shrinkage: float = 10.0, decay: float = 0.8) -> Scorer:
    """Cosine of the users two products share, shrunk, summed over the history decayed per item back (Sarwar 2001)."""
    pairs = matrix(interactions)
    users = np.asarray(pairs.sum(axis=0)).ravel()
    shared = (pairs.T @ pairs).tocoo()
    off = shared.row != shared.col
    row, col = shared.row[off], shared.col[off]
    cosine = shared.data[off] / (np.sqrt(users[row] * users[col]) + shrinkage)
    similar = sparse.csr_matrix((cosine, (row, col)), shape=shared.shape)
    return lambda histories: np.asarray(
        (history_weights(histories, interactions.n_items, decay) @ similar).todense(), np.float64
    )


def tfidf(catalogue: Catalogue, *, decay: float = 0.8, known: BoolArray | None = None) -> Scorer:
    """Cosine of TF-IDF over all text columns, summed over the history decayed per item back; `known`: see `product_tfidf`."""
    rows = product_tfidf(catalogue, fit_on=known)
    across = rows.T.tocsc()

    def scores(histories: Histories) -> DoubleArray:
        return np.asarray((history_weights(histories, len(catalogue), decay) @ rows @ across).todense(), np.float64)

    return scores


def chain(*scorers: Scorer) -> Scorer:
    """One list after another: what an earlier scorer proposes at all comes before what only a later one proposes."""

    def scores(histories: Histories) -> DoubleArray:
        out: DoubleArray | None = None
        for place, scorer in enumerate(scorers):
            part = scorer(histories)
            top = part.max(axis=1, keepdims=True)
            lifted = np.where(part > 0, part / np.where(top > 0, top, 1.0) + 2.0 * (len(scorers) - place), 0.0)
            out = lifted if out is None else np.maximum(out, lifted)
        assert out is not None
        return out

    return scores


def weighted_sum(parts: Sequence[tuple[float, Scorer]]) -> Scorer:
    """Weighted sum of scores as they are."""

    def scores(histories: Histories) -> DoubleArray:
        return np.asarray(np.sum([weight * scorer(histories) for weight, scorer in parts], axis=0))

    return scores


def relative(scorer: Scorer) -> Scorer:
    """Each user's scores divided by the user's largest."""

    def scores(histories: Histories) -> DoubleArray:
        out = scorer(histories)
        top = out.max(axis=1, keepdims=True)
        return np.asarray(out / np.where(top > 0, top, 1.0))

    return scores


def log1p_scores(scorer: Scorer) -> Scorer:
    """log(1 + score)."""
    return lambda histories: np.log1p(scorer(histories))


def to_ranked_lists(
    scorer: Scorer, *, exclude_seen: bool, allowed: BoolArray | None = None, block: int = 256
) -> System:
    """Turn scores into lists: scores above 0 only, ties by lower row, what was bought left out if `exclude_seen`."""

    def system(histories: Histories, k: int) -> IntArray:
        out = np.full((len(histories), k), -1, np.int64)
        for start in range(0, len(histories), block):
            part = take_histories(histories, np.arange(start, min(start + block, len(histories))))
            scores = scorer(part)
            if allowed is not None:
                scores[:, ~allowed] = -np.inf
            if exclude_seen:
                user, at = np.nonzero(part.mask & (part.event_types == PURCHASE_CODE))
                scores[user, part.items[user, at]] = -np.inf
            # The k-th best score bounds what need be sorted: all above 0 that reach it, ties included. Where little is
            # above 0 that is bound enough.
            bound = np.zeros(len(part))
            crowded = np.flatnonzero((scores > 0).sum(axis=1) > 8 * k)
            if len(crowded):
                bound[crowded] = np.partition(scores[crowded], -k, axis=1)[:, -k]
            for row in range(len(part)):
                items = np.flatnonzero((scores[row] >= bound[row]) & (scores[row] > 0))
                best = items[np.argsort(-scores[row, items], kind="stable")[:k]]
                out[start + row, : len(best)] = best
        return out

    return system


def history_weights(histories: Histories, n_items: int, decay: float) -> sparse.csr_matrix:
    """(b, n): decay ** p for the p-th product back; a product that stands twice counts where it is newest."""
    user, item, weight = [], [], []
    for row in range(len(histories)):
        items = histories.items[row][histories.mask[row]][::-1].tolist()
        for back, product in enumerate(dict.fromkeys(items)):
            user.append(row)
            item.append(product)
            weight.append(decay**back)
    return sparse.csr_matrix((weight, (user, item)), shape=(len(histories), n_items))
