"""Recommendation lists without earlier purchases, or restricted to targets and sampled negatives.

In: a system and holdout cases. Out: (b, k) product rows, best first, -1 = empty.
"""

from __future__ import annotations

import numpy as np

from recsys.data.holdout import HoldoutCases, take_histories
from recsys.evaluate.baselines import System
from recsys.evaluate.slices import Targets
from recsys.types import BoolArray, IntArray

_MAX_CELLS = 4_000_000
"""Cells of full-length lists held in memory at once."""


def drop_purchased(system: System, cases: HoldoutCases, lists: IntArray, purchased: Targets) -> IntArray:
    """Remove what each user had bought from the lists and fill the gaps with the next best products.

    The system is called again only for users whose list contains such a product, with a list longer by the number of
    products they had bought.

    Args:
        system: called again.
        cases: b users.
        lists: (b, k) its recommendations.
        purchased: b arrays of distinct products each user had bought.
    """
    k = lists.shape[1]
    affected = np.flatnonzero([bool(np.isin(row, bought).any()) for row, bought in zip(lists, purchased, strict=True)])
    out = lists.copy()
    if len(affected):
        deeper_k = k + max(len(purchased[row]) for row in affected.tolist())
        deeper = system(take_histories(cases.histories, affected), deeper_k)
        for row, items in zip(affected.tolist(), deeper, strict=True):
            remaining = items[(items >= 0) & ~np.isin(items, purchased[row])][:k]
            out[row] = -1
            out[row, : len(remaining)] = remaining
    return out


def sample_negatives(
    cases: HoldoutCases, purchased: Targets, sellable: BoolArray, *, count: int, seed: int
) -> list[IntArray]:
    """Draw `count` sellable products per user that the user neither buys nor had bought, uniformly.

    A user for whom fewer are left gets all of them.
    """
    g = np.random.default_rng(seed)
    sellable_rows = np.flatnonzero(sellable)
    out = []
    for targets, bought in zip(cases.targets, purchased, strict=True):
        excluded = np.union1d(targets, bought)
        sample = g.choice(sellable_rows, min(len(sellable_rows), count + len(excluded)), replace=False)
        out.append(sample[~np.isin(sample, excluded)][:count])
    return out


def rank_among_negatives(
    system: System, cases: HoldoutCases, negatives: list[IntArray], *, n_items: int, k: int
) -> IntArray:
    """Rank each user's targets and negatives in the system's full order and return the first k.

    Products the system never lists are left out.

    Args:
        system: called for lists of all n products.
        cases: b users.
        negatives: b arrays of negatives.
        n_items: products in the catalogue.
        k: length of the result.
    """
    out = np.full((len(cases), k), -1, np.int64)
    batch_size = max(1, _MAX_CELLS // max(1, n_items))
    for start in range(0, len(cases), batch_size):
        rows = np.arange(start, min(start + batch_size, len(cases)))
        for row, items in zip(rows.tolist(), system(take_histories(cases.histories, rows), n_items), strict=True):
            ranked = items[np.isin(items, np.concatenate([cases.targets[row], negatives[row]]))][:k]
            out[row, : len(ranked)] = ranked
    return out
