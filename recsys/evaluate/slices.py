"""Slices of the holdout cases, by user and by product, that are evaluated separately.

In: `HoldoutCases`, the catalogue, the training events. Out: slices, each a subset of cases with the targets that count.
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
ProductFilter = Callable[[IntArray], BoolArray]
NEW_PURCHASES = "new_purchases"


@dataclass(frozen=True)
class Slice:
    """A subset of the cases, evaluated on a subset of their targets.

    Attributes:
        name: as in the result table.
        rows: (s,) positions among the cases.
        targets: s arrays, the targets that count.
        exclude_purchased: remove what a user had bought before from the list before it is evaluated.
    """

    name: str
    rows: IntArray
    targets: Targets
    exclude_purchased: bool = False


def create_slices(
    cases: HoldoutCases,
    catalogue: Catalogue,
    train: Interactions,
    *,
    cutoff: int | None = None,
    target: int = PURCHASE_CODE,
) -> list[Slice]:
    """Split the cases by user and by product.

    The slices: all, without repeat purchases, by history length, by popularity and image of the target, new products.
    A slice by product evaluates the lists on those targets alone, over the users who have one.

    Args:
        cases: b users.
        catalogue: n products.
        train: the training events.
        cutoff: UTC seconds of the cutoff; without it there is no slice of new products.
        target: code of the event type of the targets.

    Returns:
        The slices with at least one case.
    """
    all_rows = np.arange(len(cases))
    history_length = np.array([len(np.unique(row[row >= 0])) for row in cases.histories.items], np.int64)
    out = [Slice("all", all_rows, cases.targets)]
    bought_before = purchased_products(cases, train, target=target)
    new = [np.setdiff1d(items, bought) for items, bought in zip(cases.targets, bought_before, strict=True)]
    out.append(_slice_by_targets(NEW_PURCHASES, new, exclude_purchased=True))
    by_user = {
        "with_history": history_length > 0,
        "no_history": history_length == 0,
        "history_1_2": (history_length >= 1) & (history_length <= 2),
        "history_3_9": (history_length >= 3) & (history_length <= 9),
        "history_10_up": history_length >= 10,
    }
    for name, mask in by_user.items():
        rows = all_rows[mask]
        out.append(Slice(name, rows, tuple(cases.targets[row] for row in rows.tolist())))
    counts, has_image = train.counts(), catalogue.images.present
    by_product: dict[str, ProductFilter] = {
        "unseen_products": lambda items: counts[items] == 0,
        "rare_products": lambda items: (counts[items] >= 1) & (counts[items] <= 2),
        "common_products": lambda items: counts[items] >= 3,
        "pictured_products": lambda items: has_image[items],
        "unpictured_products": lambda items: ~has_image[items],
    }
    if cutoff is not None:
        is_new = new_product_mask(catalogue, train, cutoff)
        by_product["new_products"] = lambda items: is_new[items]
    out += [
        _slice_by_targets(name, [items[which(items)] for items in cases.targets]) for name, which in by_product.items()
    ]
    return [part for part in out if len(part.rows)]


def new_product_mask(catalogue: Catalogue, train: Interactions, cutoff: int) -> BoolArray:
    """Mark products created since `cutoff`; without a creation time, those without an event: (n,) bool."""
    created = creation_times(catalogue)
    return np.where(np.isnan(created), train.counts() == 0, created >= cutoff)


def creation_times(catalogue: Catalogue) -> DoubleArray:
    """Return when each product was created, UTC seconds, NaN = unknown: (n,)."""
    if schema.CREATED_AT not in catalogue.frame.columns:
        return np.full(len(catalogue), np.nan)
    return catalogue.frame[schema.CREATED_AT].cast(float).fill_null(float("nan")).to_numpy()


def purchased_products(cases: HoldoutCases, train: Interactions, *, target: int = PURCHASE_CODE) -> Targets:
    """Return the distinct products each user had bought, in the history or the training events: b arrays.

    With another `target`, those with an event of that type.
    """
    is_purchase = cases.histories.event_types == target
    out = []
    for row, user in enumerate(cases.histories.users.tolist()):
        items = cases.histories.items[row][is_purchase[row] & (cases.histories.items[row] >= 0)]
        if user >= 0:
            events = slice(train.starts[user], train.starts[user + 1])
            items = np.concatenate([items, train.item[events][train.event_type[events] == target]])
        out.append(np.unique(items))
    return tuple(out)


def _slice_by_targets(name: str, targets: list[IntArray], *, exclude_purchased: bool = False) -> Slice:
    """Create a slice of the users who have at least one of these targets."""
    rows = np.array([row for row, items in enumerate(targets) if len(items)], np.int64)
    return Slice(name, rows, tuple(targets[row] for row in rows.tolist()), exclude_purchased)
