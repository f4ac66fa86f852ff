"""Kinds of users and of products that lists are judged on apart from each other.

In: `HoldoutCases`, the catalogue, what was learned from. Out: slices, each some cases with the targets that count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.holdout import HoldoutCases
from recsys.data.interactions import Interactions
from recsys.data.schema import PURCHASE_CODE
from recsys.types import BoolArray, DoubleArray, IntArray

Targets = tuple[IntArray, ...]
Which = Callable[[IntArray], BoolArray]
NEW_PURCHASES = "new_purchases"


@dataclass(frozen=True)
class Slice:
    """Some of the cases, judged by some of their targets.

    Attributes:
        name: for the table.
        rows: (s,) positions among the cases.
        targets: s arrays, the targets that count.
        unbought: what a user had bought before is taken out of the list before it is judged.
    """

    name: str
    rows: IntArray
    targets: Targets
    unbought: bool = False


def slices(cases: HoldoutCases, catalogue: Catalogue, train: Interactions, *, cut: int | None = None) -> list[Slice]:
    """All cases; without repeat purchases; by the user's earlier products; by how known a target was; by its picture.

    A slice by product judges the lists by those targets alone, on the users who have one.

    Args:
        cases: b users.
        catalogue: n products.
        train: what was learned from.
        cut: UTC seconds from which on the purchases are held back; without it no product is new since then.

    Returns:
        The slices that hold a case.
    """
    everybody = np.arange(len(cases))
    distinct = np.array([len(np.unique(row[row >= 0])) for row in cases.histories.items], np.int64)
    out = [Slice("all", everybody, cases.targets)]
    own = purchased_products(cases, train)
    new = [np.setdiff1d(items, mine) for items, mine in zip(cases.targets, own, strict=True)]
    out.append(_kept(NEW_PURCHASES, new, unbought=True))
    by_user = {
        "with_history": distinct > 0,
        "no_history": distinct == 0,
        "history_1_2": (distinct >= 1) & (distinct <= 2),
        "history_3_9": (distinct >= 3) & (distinct <= 9),
        "history_10_up": distinct >= 10,
    }
    for name, rows in by_user.items():
        at = everybody[rows]
        out.append(Slice(name, at, tuple(cases.targets[row] for row in at.tolist())))
    counts, pictured = train.counts(), catalogue.images.present
    by_product: dict[str, Which] = {
        "unseen_products": lambda items: counts[items] == 0,
        "rare_products": lambda items: (counts[items] >= 1) & (counts[items] <= 2),
        "common_products": lambda items: counts[items] >= 3,
        "pictured_products": lambda items: pictured[items],
        "unpictured_products": lambda items: ~pictured[items],
    }
    if cut is not None:
        since = new_product_mask(catalogue, train, cut)
        by_product["new_products"] = lambda items: since[items]
    out += [_kept(name, [items[which(items)] for items in cases.targets]) for name, which in by_product.items()]
    return [part for part in out if len(part.rows)]


def new_product_mask(catalogue: Catalogue, train: Interactions, cut: int) -> BoolArray:
    """Products created from `cut` on or, where nobody knows when, without an event before it: (n,) bool."""
    made = creation_times(catalogue)
    return np.where(np.isnan(made), train.counts() == 0, made >= cut)


def creation_times(catalogue: Catalogue) -> DoubleArray:
    """When each product was created, UTC seconds, NaN = nobody knows: (n,)."""
    if schema.CREATED_AT not in catalogue.frame.columns:
        return np.full(len(catalogue), np.nan)
    return catalogue.frame[schema.CREATED_AT].cast(float).fill_null(float("nan")).to_numpy()


def purchased_products(cases: HoldoutCases, train: Interactions) -> Targets:
    """The distinct products each user had bought, by the history and by all that was learned from: b arrays."""
    shown = cases.histories.event_types == PURCHASE_CODE
    out = []
    for row, user in enumerate(cases.histories.users.tolist()):
        items = cases.histories.items[row][shown[row] & (cases.histories.items[row] >= 0)]
        if user >= 0:
            events = slice(train.starts[user], train.starts[user + 1])
            items = np.concatenate([items, train.item[events][train.event_type[events] == PURCHASE_CODE]])
        out.append(np.unique(items))
    return tuple(out)


def _kept(name: str, targets: list[IntArray], *, unbought: bool = False) -> Slice:
    """The users who have a target left."""
    rows = np.array([row for row, items in enumerate(targets) if len(items)], np.int64)
    return Slice(name, rows, tuple(targets[row] for row in rows.tolist()), unbought)
