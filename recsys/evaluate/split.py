"""Ways to hold purchases back for a test: by time, or the last purchase of some users.

In: Interactions, and a number of days or some users. Out: what may be learned from, and `Cases`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Histories, Interactions
from recsys.errors import UsageError
from recsys.recommend.cases import Cases, time_split
from recsys.recommend.proposals import DAY, PURCHASE_CODE

__all__ = ["Cases", "last_days", "leave_last", "time_split"]


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


def leave_last(
    interactions: Interactions, users: npt.NDArray[np.integer], *, last: int = 200
) -> tuple[Interactions, Cases]:
    """Complete the purchase: learn from everybody else; of these users' distinct products the last is the target.

    A product bought again counts where it was bought first. Users with fewer than two products are left out of the
    cases, and of what is learned from. Ties in time are in the order of the product rows (as in `Interactions`).

    Raises:
        UsageError: no such user has two products.
    """
    test = np.zeros(interactions.n_users, np.bool_)
    test[users] = True
    kept: list[npt.NDArray[np.int64]] = []
    rows: list[int] = []
    for user in np.flatnonzero(test).tolist():
        at = np.arange(interactions.starts[user], interactions.starts[user + 1])
        at = at[interactions.kind[at] == PURCHASE_CODE]
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
    return interactions.where(~test[interactions.user]), Cases(histories, targets, now)
