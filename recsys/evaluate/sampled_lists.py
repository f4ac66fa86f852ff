"""Lists cut down: to products the user had not bought, or to the targets among drawn negatives.

In: a system and cases. Out: (b, k) product rows, best first, -1 = none.
"""

from __future__ import annotations

import numpy as np

from recsys.data.holdout import HoldoutCases, take_histories
from recsys.evaluate.baselines import System
from recsys.evaluate.slices import Targets
from recsys.types import BoolArray, IntArray

_BLOCK = 4_000_000
"""Places of whole lists held at once."""


def drop_purchased(system: System, cases: HoldoutCases, lists: IntArray, own: Targets) -> IntArray:
    """The lists as they are without what each user had bought, filled up from further down.

    Only users in whose list such a product stands are asked for again, for a list longer by all they had bought.

    Args:
        system: asked again.
        cases: b users.
        lists: (b, k) what it said.
        own: b arrays of distinct products each user had bought.
    """
    k = lists.shape[1]
    again = np.flatnonzero([bool(np.isin(row, mine).any()) for row, mine in zip(lists, own, strict=True)])
    out = lists.copy()
    if len(again):
        deeper = k + max(len(own[row]) for row in again.tolist())
        for row, items in zip(again.tolist(), system(take_histories(cases.histories, again), deeper), strict=True):
            kept = items[(items >= 0) & ~np.isin(items, own[row])][:k]
            out[row] = -1
            out[row, : len(kept)] = kept
    return out


def sample_negatives(
    cases: HoldoutCases, own: Targets, sellable: BoolArray, *, number: int, seed: int
) -> list[IntArray]:
    """For each user, `number` products drawn uniformly of those sold that it neither buys nor had bought.

    All of them where there are no more.
    """
    g = np.random.default_rng(seed)
    sold = np.flatnonzero(sellable)
    out = []
    for targets, mine in zip(cases.targets, own, strict=True):
        barred = np.union1d(targets, mine)
        drawn = g.choice(sold, min(len(sold), number + len(barred)), replace=False)
        out.append(drawn[~np.isin(drawn, barred)][:number])
    return out


def rank_among_negatives(system: System, cases: HoldoutCases, drawn: list[IntArray], *, n: int, k: int) -> IntArray:
    """The first k of each user's targets and negatives in the system's whole order; what it never lists is left out.

    Args:
        system: asked for lists of all n products.
        cases: b users.
        drawn: b arrays of negatives.
        n: products of the catalogue.
        k: length.
    """
    out = np.full((len(cases), k), -1, np.int64)
    at_once = max(1, _BLOCK // max(1, n))
    for start in range(0, len(cases), at_once):
        rows = np.arange(start, min(start + at_once, len(cases)))
        for row, items in zip(rows.tolist(), system(take_histories(cases.histories, rows), n), strict=True):
            kept = items[np.isin(items, np.concatenate([cases.targets[row], drawn[row]]))][:k]
            out[row, : len(kept)] = kept
    return out
