"""Train-test splits: by time, by the last purchase of each user, or by users.

In: `Interactions`, and a number of days or test users. Out: training events, and `HoldoutCases`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.holdout import HoldoutCases, time_split
from recsys.data.interactions import FOREVER, EventVersions, Histories, Interactions
from recsys.data.schema import DAY, EVENT_TYPES, PURCHASE_CODE
from recsys.errors import UsageError, suggestion
from recsys.types import BoolArray, IntArray

SPLIT_METHODS = ("time", "last", "users")
_TEST_USER_RATIO = 5
"""The split by users holds out one in this many users."""


@dataclass(frozen=True)
class Split:
    """A log split into training events and holdout cases.

    Attributes:
        method: time, last or users.
        train: the training events.
        cases: histories and targets.
        cutoff: UTC seconds from which on all events are held out; None if each user has a different cutoff.
        held_out: (e,) bool, the events of the log that are neither in `train` nor in a history.
    """

    method: str
    train: Interactions
    cases: HoldoutCases
    cutoff: int | None
    held_out: BoolArray


def create_split(
    method: str,
    interactions: Interactions,
    *,
    days: float,
    max_users: int,
    seed: int,
    target: int = PURCHASE_CODE,
) -> Split:
    """Split the log into training events and holdout cases.

    Args:
        method: "time" (the last `days` days), "last" (the last purchase of each user) or "users" (a fifth of the users
            is excluded from training, and the last of their distinct products is the target).
        interactions: the complete log.
        days: for the split by time.
        max_users: test users at most, sampled with `seed`.
        seed: of the sampling.
        target: code of the event type that is predicted; where purchases are spoken of, events of this type are meant.

    Raises:
        UsageError: the split is unknown, or the log has too few events or users for it.
    """
    if method not in SPLIT_METHODS:
        raise UsageError(
            f"unknown split '{method}'{suggestion(method, SPLIT_METHODS)} (known: {', '.join(SPLIT_METHODS)})"
        )
    cut = holdout_start(interactions, days)
    if target not in interactions.event_type:
        most_frequent = EVENT_TYPES[int(np.bincount(interactions.event_type).argmax())]
        raise UsageError(
            f"no event to evaluate with is of the type '{EVENT_TYPES[target]}'; "
            f'set [evaluate] target = "{most_frequent}"'
        )
    if method == "time":
        train, cases = time_split(interactions, cut, max_users=max_users, seed=seed, target=target)
        return Split(method, train, cases, cut, interactions.time >= cut)
    if method == "last":
        train, cases, back = leave_one_out(interactions, max_users=max_users, seed=seed, target=target)
        return Split(method, train, cases, None, back)
    test_users = _sample_test_users(interactions, max_users=max_users, seed=seed, target=target)
    train, cases = leave_last_of_test_users(interactions, test_users, target=target)
    target_item = np.full(interactions.n_users, -1, np.int64)
    target_item[cases.histories.users] = [items[0] for items in cases.targets]
    back = (interactions.item == target_item[interactions.user]) & (interactions.event_type == target)
    return Split(method, train, cases, None, back)


def holdout_start(interactions: Interactions, days: float) -> int:
    """Return when the last `days` days of the log begin, UTC seconds; whole days begin at midnight.

    Raises:
        UsageError: there is no event.
    """
    if not len(interactions):
        raise UsageError("no event to evaluate with; ingest purchases first")
    newest = interactions.last_time
    if days == int(days):
        return newest - newest % DAY - (int(days) - 1) * DAY
    return newest - int(days * DAY) + 1


def leave_last_of_test_users(
    interactions: Interactions,
    users: npt.NDArray[np.integer],
    *,
    max_history: int = 200,
    target: int = PURCHASE_CODE,
) -> tuple[Interactions, HoldoutCases]:
    """Train on all other users; the target of each test user is the last of the user's distinct products.

    A product bought again counts at its first purchase. Test users with fewer than two products are excluded from the
    cases and from training. Ties in time are in the order of the product rows (as in `Interactions`).

    Raises:
        UsageError: no such user has two products.
    """
    is_test = np.zeros(interactions.n_users, np.bool_)
    is_test[users] = True
    purchases: list[IntArray] = []
    rows: list[int] = []
    for user in np.flatnonzero(is_test).tolist():
        events = np.arange(interactions.starts[user], interactions.starts[user + 1])
        events = events[interactions.event_type[events] == target]
        _, first = np.unique(interactions.item[events], return_index=True)
        if len(first) >= 2:
            purchases.append(events[np.sort(first)])
            rows.append(user)
    if not purchases:
        raise UsageError("no test user has two products; nothing to complete")
    length = min(max_history, max(len(events) for events in purchases) - 1)
    items = np.full((len(purchases), length), -1, np.int64)
    times, event_types = np.zeros_like(items), np.zeros(items.shape, np.int8)
    for row, events in enumerate(purchases):
        history = events[:-1][-length:]
        items[row, length - len(history) :] = interactions.item[history]
        times[row, length - len(history) :] = interactions.time[history]
        event_types[row, length - len(history) :] = target
    targets = tuple(interactions.item[events[-1:]] for events in purchases)
    histories = Histories(np.array(rows, np.int64), items, times, event_types, interactions.type_weights)
    now = interactions.last_time + 1
    return interactions.of_users(~is_test), HoldoutCases(histories, targets, now)


def leave_one_out(
    interactions: Interactions,
    *,
    max_history: int = 200,
    max_users: int | None = None,
    seed: int = 0,
    target: int = PURCHASE_CODE,
) -> tuple[Interactions, HoldoutCases, BoolArray]:
    """Leave one out: the target is the last purchase of each user, the history the events before it.

    Events of a user after the target are excluded from training. Users without an event before their last purchase are
    used for training only. Ties in time are in the order of the product rows (as in `Interactions`).

    Returns:
        The training events, the cases, and (e,) bool, the events held out.

    Raises:
        UsageError: no user has a purchase after an earlier event.
    """
    purchases = np.flatnonzero(interactions.event_type == target)
    users, from_end = np.unique(interactions.user[purchases][::-1], return_index=True)
    newest = purchases[len(purchases) - 1 - from_end]
    has_history = newest > interactions.starts[users]
    users, newest = users[has_history], newest[has_history]
    if not len(users):
        raise UsageError("no user bought anything after an earlier event; the split 'last' needs such users")
    limit = np.full(interactions.n_users, len(interactions), np.int64)
    limit[users] = newest
    back = np.arange(len(interactions)) >= limit[interactions.user]
    train = interactions.where(~back) if interactions.versions is None else _before_targets(interactions, users, newest)
    if max_users is not None and len(users) > max_users:
        sample = np.sort(np.random.default_rng(seed).choice(len(users), max_users, replace=False))
        users, newest = users[sample], newest[sample]
    length = int(min(max_history, (train.starts[users + 1] - train.starts[users]).max()))
    targets = tuple(interactions.item[event : event + 1] for event in newest.tolist())
    return train, HoldoutCases(train.histories(users, length), targets, int(train.time.max()) + 1), back


def _before_targets(interactions: Interactions, users: IntArray, targets: IntArray) -> Interactions:
    """Return all events without those of each user from the target on, as they were known then.

    Args:
        interactions: the complete log.
        users: (b,) users with a target.
        targets: (b,) position of each user's target.
    """
    cut = np.full(interactions.n_users, FOREVER, np.int64)
    cut[users] = interactions.time[targets] + 1
    item = np.full(interactions.n_users, interactions.n_items, np.int64)
    item[users] = interactions.item[targets]
    known = interactions.as_of(cut)

    def precede(events: Interactions | EventVersions) -> BoolArray:
        return (events.time < cut[events.user] - 1) | (events.item < item[events.user])

    versions = None if known.versions is None else known.versions.where(precede(known.versions))
    return known.where(precede(known), versions=versions)


def _sample_test_users(interactions: Interactions, *, max_users: int, seed: int, target: int) -> IntArray:
    """Sample a fifth of the users with at least two distinct products.

    Raises:
        UsageError: fewer than five users have two products.
    """
    is_purchase = interactions.event_type == target
    pairs = np.unique(interactions.user[is_purchase] * interactions.n_items + interactions.item[is_purchase])
    users, products = np.unique(pairs // interactions.n_items, return_counts=True)
    eligible = users[products >= 2]
    if len(eligible) < _TEST_USER_RATIO:
        raise UsageError(
            f"the split 'users' holds back a fifth of the users with two products, and only {len(eligible)} have two; "
            "use the split 'time' or 'last'"
        )
    count = min(len(eligible) // _TEST_USER_RATIO, max_users)
    return np.sort(np.random.default_rng(seed).choice(eligible, count, replace=False))
