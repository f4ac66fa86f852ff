"""Cancel purchases by returns: of ten packs, one of which is sent back, the customer keeps nine.

In: events as arrays. Out: what is left of each event, and its earlier versions (`EventVersions`).

A return takes from the purchases of the same user and product before it: first from those of the order it names, then
from the latest. What a return takes depends on earlier events only, so the state before any time can be restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.data.interactions import FOREVER, EventVersions
from recsys.data.schema import PURCHASE_CODE, RETURN_CODE
from recsys.types import BoolArray, DoubleArray, IntArray

_TOLERANCE = 1e-6
"""Quantities up to this are nothing: the rounding of weights in kilograms."""


@dataclass(frozen=True)
class NettedEvents:
    """Events after returns; e events in the order given.

    Attributes:
        keep: (e,) bool, events that stay: no returns, and no purchase of which nothing is left.
        quantity: (e,) float64, what is left of each event.
        versions: purchases of the pairs with a return, as they were known at any time; None without a return.
        n_cancelled: purchases of which nothing is left.
        n_reduced: purchases of which a part is left.
        n_unmatched: returns of a product that the user had not bought before, or no longer had.
    """

    keep: BoolArray
    quantity: DoubleArray
    versions: EventVersions | None
    n_cancelled: int = 0
    n_reduced: int = 0
    n_unmatched: int = 0


@dataclass(frozen=True)
class _PairEvents:
    """Purchases and returns of the pairs with a return, by pair and time, purchases first; p events.

    Attributes:
        row: (p,) position among all events.
        pair: (p,) 0.. without gaps.
        time: (p,) UTC seconds.
        is_return: (p,) bool.
        quantity: (p,) float64.
        order: (p,) code of the order, -1 = none.
    """

    row: IntArray
    pair: IntArray
    time: IntArray
    is_return: BoolArray
    quantity: DoubleArray
    order: IntArray


@dataclass(frozen=True)
class _Cancellations:
    """What returns took; m cancellations, by time within a pair.

    Attributes:
        purchase: (m,) position among the events of pairs.
        by: (m,) position of the return.
        before: (m,) float64, quantity of the purchase before it.
    """

    purchase: IntArray
    by: IntArray
    before: DoubleArray


def cancel_returned(
    *,
    user: IntArray,
    item: IntArray,
    time: IntArray,
    event_type: IntArray,
    quantity: DoubleArray,
    order: IntArray,
    type_weight: float,
) -> NettedEvents:
    """Reduce purchases by the returns of the same user and product.

    Args:
        user: (e,) user rows.
        item: (e,) product rows.
        time: (e,) UTC seconds.
        event_type: (e,) codes.
        quantity: (e,) pieces, or another unit of the shop.
        order: (e,) code of the order, -1 = none.
        type_weight: weight of a purchase, for the versions.
    """
    is_return = event_type == RETURN_CODE
    if not is_return.any():
        return NettedEvents(np.ones(len(user), np.bool_), quantity, None)
    events = _select_pairs(user, item, time, event_type, quantity, order)
    left, taken, emptied, n_unmatched = _match(events)
    remaining = quantity.copy()
    remaining[events.row] = left
    keep = ~is_return
    touched = np.unique(taken.purchase)
    gone = touched[left[touched] == 0]
    keep[events.row[gone]] = False
    versions = _versions(events, left, taken, emptied, user=user, item=item, type_weight=type_weight)
    return NettedEvents(keep, remaining, versions, len(gone), len(touched) - len(gone), n_unmatched)


def _select_pairs(
    user: IntArray, item: IntArray, time: IntArray, event_type: IntArray, quantity: DoubleArray, order: IntArray
) -> _PairEvents:
    """Select the purchases and returns of the (user, product) pairs that have a return."""
    key = user * (int(item.max()) + 1) + item
    is_return = event_type == RETURN_CODE
    pairs = np.unique(key[is_return])
    row = np.flatnonzero(is_return | ((event_type == PURCHASE_CODE) & np.isin(key, pairs)))
    row = row[np.lexsort((row, is_return[row], time[row], key[row]))]
    pair = np.searchsorted(pairs, key[row])
    return _PairEvents(row, pair, time[row], is_return[row], quantity[row], order[row])


def _match(events: _PairEvents) -> tuple[DoubleArray, _Cancellations, IntArray, int]:
    """Take the returns from the purchases, the first return of every pair at once, then the second, and so on.

    Returns:
        (p,) float64, what is left of each event, 0 for returns; the cancellations; (q,) returns after which the user
        has nothing of the product; the number of returns that found no purchase.
    """
    left = np.where(events.is_return, 0.0, events.quantity)
    starts = np.searchsorted(events.pair, events.pair)
    purchases, causes, quantities = [], [], []
    emptied = [np.zeros(0, np.int64)]
    n_unmatched = 0
    for returns in _rounds(events):
        lengths = returns - starts[returns]
        owner = np.repeat(np.arange(len(returns)), lengths)
        row = np.arange(len(owner)) + np.repeat(starts[returns] - (np.cumsum(lengths) - lengths), lengths)
        is_open = left[row] > 0
        owner, row = owner[is_open], row[is_open]
        other_order = (events.order[row] != events.order[returns[owner]]) | (events.order[row] < 0)
        by_preference = np.lexsort((-row, other_order, owner))
        owner, row = owner[by_preference], row[by_preference]
        first = np.searchsorted(owner, owner)
        ahead = np.cumsum(left[row]) - left[row]
        ahead -= ahead[first]
        take = np.clip(events.quantity[returns[owner]] - ahead, 0.0, left[row])
        hit = take > _TOLERANCE
        n_unmatched += len(returns) - len(np.unique(owner))
        purchases.append(row[hit])
        causes.append(returns[owner[hit]])
        quantities.append(left[row[hit]])
        rest = left[row] - take
        left[row] = np.where(rest > _TOLERANCE, rest, 0.0)
        emptied.append(returns[np.bincount(owner, left[row], minlength=len(returns)) == 0])
    taken = _Cancellations(np.concatenate(purchases), np.concatenate(causes), np.concatenate(quantities))
    return left, taken, np.concatenate(emptied), n_unmatched


def _rounds(events: _PairEvents) -> Iterator[IntArray]:
    """Yield the positions of the first return of every pair, then of the second, and so on."""
    returns = np.flatnonzero(events.is_return)
    pair = events.pair[returns]
    nth = np.arange(len(returns)) - np.searchsorted(pair, pair)
    by_round = returns[np.argsort(nth, kind="stable")]
    yield from np.split(by_round, np.cumsum(np.bincount(nth))[:-1])


def _versions(
    events: _PairEvents,
    left: DoubleArray,
    taken: _Cancellations,
    emptied: IntArray,
    *,
    user: IntArray,
    item: IntArray,
    type_weight: float,
) -> EventVersions:
    """List the quantities that each purchase had, and the times at which the user had nothing of the product."""
    by_purchase = np.argsort(taken.purchase, kind="stable")
    purchase, by = taken.purchase[by_purchase], taken.by[by_purchase]
    before = taken.before[by_purchase]
    is_first = np.r_[True, purchase[1:] != purchase[:-1]][: len(purchase)]
    until = events.time[by]
    since = np.where(is_first, events.time[purchase], np.r_[0, until[:-1]][: len(until)])
    last_change = events.time.copy()
    np.maximum.at(last_change, purchase, until)
    held = np.flatnonzero(~events.is_return & ((left > 0) | (events.quantity == 0)))
    # A product that was sent back may be bought again: from then on it is no longer a returned product.
    n = len(events.row)
    next_purchase = np.minimum.accumulate(np.where(events.is_return, n, np.arange(n))[::-1])[::-1]
    following = np.minimum(next_purchase[emptied], n - 1)
    bought_again = (next_purchase[emptied] < n) & (events.pair[following] == events.pair[emptied])
    emptied_until = np.where(bought_again, events.time[following], FOREVER)
    at = np.concatenate([purchase, held, emptied])
    weight = np.concatenate([before, left[held], np.zeros(len(emptied))]).astype(np.float32) * np.float32(type_weight)
    since = np.concatenate([since, last_change[held], events.time[emptied]])
    until = np.concatenate([until, np.full(len(held), FOREVER), emptied_until])
    order = np.argsort(events.row[at], kind="stable")  # equal events stay in the order given
    order = order[since[order] < until[order]]
    at = at[order]
    return EventVersions(
        user[events.row[at]],
        item[events.row[at]],
        events.time[at],
        np.where(events.is_return[at], RETURN_CODE, PURCHASE_CODE).astype(np.int8),
        weight[order],
        since[order],
        until[order],
    )
