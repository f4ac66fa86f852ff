"""Cases: what some users did before a moment, and what they bought then; to fit the blend on and to judge lists by.

In: Interactions and a moment. Out: what was before it, and `HoldoutCases`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.errors import UsageError
from recsys.types import IntArray


@dataclass(frozen=True)
class HoldoutCases:
    """b users to judge lists for.

    Attributes:
        histories: (b, t) what is known of each user, newest last.
        targets: b arrays, the distinct product rows each user bought afterwards, at least one.
        now: UTC seconds, the moment the lists are for.
    """

    histories: Histories
    targets: tuple[IntArray, ...]
    now: int

    def __post_init__(self) -> None:
        if len(self.histories) != len(self.targets):
            raise UsageError(f"{len(self.histories)} histories but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: npt.NDArray[np.integer]) -> HoldoutCases:
        """The cases at some positions."""
        return HoldoutCases(
            take_histories(self.histories, rows), tuple(self.targets[row] for row in rows.tolist()), self.now
        )


def take_histories(histories: Histories, rows: npt.NDArray[np.integer]) -> Histories:
    """The histories at some positions."""
    return Histories(histories.users[rows], histories.items[rows], histories.times[rows], histories.event_types[rows])


def time_split(
    interactions: Interactions, cut: int, *, last: int = 200, max_users: int | None = None, seed: int = 0
) -> tuple[Interactions, HoldoutCases]:
    """Learn from what was before `cut` (UTC seconds); the purchases from then on are the targets.

    Args:
        interactions: all events.
        cut: the first second of the test.
        last: length t of the histories.
        max_users: test users at most, drawn by `seed`.
        seed: for the draw.

    Raises:
        UsageError: there is no purchase from `cut` on, or nothing was before it.
    """
    before, after = interactions.split(cut)
    bought = after.where(after.event_type == PURCHASE_CODE)
    users = np.unique(bought.user)
    if not len(users) or not len(before):
        side = "from" if not len(users) else "before"
        raise UsageError(f"no event to evaluate with {side} the cut; choose another number of test days")
    if max_users is not None and len(users) > max_users:
        users = np.sort(np.random.default_rng(seed).choice(users, max_users, replace=False))
    targets = tuple(np.unique(bought.item[bought.starts[user] : bought.starts[user + 1]]) for user in users)
    return before, HoldoutCases(before.histories(users, _longest(before, users, last)), targets, cut)


def cutoff_for_fraction(interactions: Interactions, fraction: float) -> int:
    """The moment (UTC seconds) from which on about `fraction` of the events lie, whole days where there are several.

    Raises:
        UsageError: all events share one moment, so there is no earlier and later.
    """
    times = np.sort(interactions.time)
    if not len(times) or times[0] == times[-1]:
        raise UsageError("all events share one moment; there is nothing earlier to learn from")
    cut = int(times[int(len(times) * (1 - fraction))])
    day = cut - cut % DAY
    whole = [moment for moment in (day, day + DAY) if times[0] < moment <= times[-1]]
    if whole:
        share = [abs(float((times >= moment).mean()) - fraction) for moment in whole]
        return whole[int(np.argmin(share))]
    return max(cut, int(times[0]) + 1)


def _longest(interactions: Interactions, users: Sequence[int] | npt.NDArray[np.integer], last: int) -> int:
    """The longest of the users' histories, `last` at most and 1 at least."""
    lengths = interactions.starts[np.asarray(users) + 1] - interactions.starts[np.asarray(users)]
    return int(min(last, max(1, lengths.max())))
