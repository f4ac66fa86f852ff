"""Ways to hold purchases back for a test: by time, the last purchase of each user, or some users altogether.

In: Interactions, and a number of days or some users. Out: what may be learned from, and `HoldoutCases`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.holdout import HoldoutCases, time_split
from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.errors import UsageError, suggestion
from recsys.types import BoolArray, IntArray

SPLITS = ("time", "last", "users")
_SHARE = 5
"""One in so many users is held back by the split by users."""


@dataclass(frozen=True)
class Split:
    """A log parted into what may be learned from and what is judged by.

    Attributes:
        split: time, last or users.
        train: what may be learned from.
        cases: histories and targets.
        cut: UTC seconds from which on everything is held back; None when each user has another moment.
        back: (e,) bool, the events of the log that stand neither in `train` nor in a history.
    """

    split: str
    train: Interactions
    cases: HoldoutCases
    cut: int | None
    back: BoolArray


def split(split: str, interactions: Interactions, *, days: float, max_users: int, seed: int) -> Split:
    """Hold purchases back.

    Args:
        split: "time" (the last `days` days), "last" (the last purchase of each user) or "users" (a fifth of the users
            are not learned from, of their distinct products the last is asked for).
        interactions: the whole log.
        days: for the split by time.
        max_users: test users at most, drawn by `seed`.
        seed: for the draws.

    Raises:
        UsageError: the log cannot be parted that way.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split '{split}'{suggestion(split, SPLITS)} (known: {', '.join(SPLITS)})")
    cut = last_days(interactions, days)
    if split == "time":
        train, cases = time_split(interactions, cut, max_users=max_users, seed=seed)
        return Split(split, train, cases, cut, interactions.time >= cut)
    if split == "last":
        train, cases, back = leave_one_out(interactions, max_users=max_users, seed=seed)
        return Split(split, train, cases, None, back)
    drawn = _fifth(interactions, max_users=max_users, seed=seed)
    train, cases = leave_last_of_test_users(interactions, drawn)
    wanted = np.full(interactions.n_users, -1, np.int64)
    wanted[cases.histories.users] = [items[0] for items in cases.targets]
    back = (interactions.item == wanted[interactions.user]) & (interactions.event_type == PURCHASE_CODE)
    return Split(split, train, cases, None, back)


def last_days(interactions: Interactions, days: float) -> int:
    """The moment (UTC seconds) the last `days` days of the log begin; whole days begin at midnight.

    Raises:
        UsageError: there is no event.
    """
    if not len(interactions):
        raise UsageError("no event to evaluate with; ingest purchases first")
    newest = int(interactions.time.max())
    if days == int(days):
        return newest - newest % DAY - (int(days) - 1) * DAY
    return newest - int(days * DAY) + 1


def leave_last_of_test_users(
    interactions: Interactions, users: npt.NDArray[np.integer], *, last: int = 200
) -> tuple[Interactions, HoldoutCases]:
    """Complete the purchase: learn from everybody else; of these users' distinct products the last is the target.

    A product bought again counts where it was bought first. Users with fewer than two products are left out of the
    cases, and of what is learned from. Ties in time are in the order of the product rows (as in `Interactions`).

    Raises:
        UsageError: no such user has two products.
    """
    test = np.zeros(interactions.n_users, np.bool_)
    test[users] = True
    kept: list[IntArray] = []
    rows: list[int] = []
    for user in np.flatnonzero(test).tolist():
        at = np.arange(interactions.starts[user], interactions.starts[user + 1])
        at = at[interactions.event_type[at] == PURCHASE_CODE]
        _, first = np.unique(interactions.item[at], return_index=True)
        if len(first) >= 2:
            kept.append(at[np.sort(first)])
            rows.append(user)
    if not kept:
        raise UsageError("no test user has two products; nothing to complete")
    length = min(last, max(len(at) for at in kept) - 1)
    items = np.full((len(kept), length), -1, np.int64)
    times, kinds = np.zeros_like(items), np.zeros(items.shape, np.int8)
    for row, at in enumerate(kept):
        given = at[:-1][-length:]
        items[row, length - len(given) :] = interactions.item[given]
        times[row, length - len(given) :] = interactions.time[given]
    targets = tuple(interactions.item[at[-1:]] for at in kept)
    histories = Histories(np.array(rows, np.int64), items, times, kinds)
    now = int(interactions.time.max()) + 1
    return interactions.where(~test[interactions.user]), HoldoutCases(histories, targets, now)


def leave_one_out(
    interactions: Interactions, *, last: int = 200, max_users: int | None = None, seed: int = 0
) -> tuple[Interactions, HoldoutCases, BoolArray]:
    """Leave one out: the last purchase of each user is the target, what the user did before it the history.

    Nothing a user did after the target is learned from. Users without an event before their last purchase are learned
    from and not judged. Ties in time are in the order of the product rows (as in `Interactions`).

    Returns:
        What may be learned from, the cases, (e,) bool which events are held back.

    Raises:
        UsageError: nobody bought anything after an earlier event.
    """
    at = np.flatnonzero(interactions.event_type == PURCHASE_CODE)
    users, from_end = np.unique(interactions.user[at][::-1], return_index=True)
    newest = at[len(at) - 1 - from_end]
    later = newest > interactions.starts[users]
    users, newest = users[later], newest[later]
    if not len(users):
        raise UsageError("no user bought anything after an earlier event; the split 'last' needs such users")
    limit = np.full(interactions.n_users, len(interactions), np.int64)
    limit[users] = newest
    back = np.arange(len(interactions)) >= limit[interactions.user]
    train = interactions.where(~back)
    if max_users is not None and len(users) > max_users:
        drawn = np.sort(np.random.default_rng(seed).choice(len(users), max_users, replace=False))
        users, newest = users[drawn], newest[drawn]
    length = int(min(last, (train.starts[users + 1] - train.starts[users]).max()))
    targets = tuple(interactions.item[one : one + 1] for one in newest.tolist())
    return train, HoldoutCases(train.histories(users, length), targets, int(train.time.max()) + 1), back


def _fifth(interactions: Interactions, *, max_users: int, seed: int) -> IntArray:
    """A fifth of the users with two distinct products, drawn.

    Raises:
        UsageError: a fifth of them is nobody.
    """
    bought = interactions.event_type == PURCHASE_CODE
    pairs = np.unique(interactions.user[bought] * interactions.n_items + interactions.item[bought])
    users, products = np.unique(pairs // interactions.n_items, return_counts=True)
    able = users[products >= 2]
    if len(able) < _SHARE:
        raise UsageError(
            f"the split 'users' holds back a fifth of the users with two products, and only {len(able)} have two; "
            "use the split 'time' or 'last'"
        )
    count = min(len(able) // _SHARE, max_users)
    return np.sort(np.random.default_rng(seed).choice(able, count, replace=False))
