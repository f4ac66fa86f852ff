"""Split interactions at a time into training events and holdout cases, for the ranker and for evaluation.

In: interactions and a cutoff. Out: the events before it, and `HoldoutCases`.
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
    """Users with their history before the cutoff and their purchases after it; b users.

    Attributes:
        histories: (b, t) events before the cutoff, newest last.
        targets: b arrays, the distinct product rows each user bought after it, at least one.
        now: UTC seconds, the time the recommendations are made for.
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
        """Return the cases at the given positions."""
        return HoldoutCases(
            take_histories(self.histories, rows), tuple(self.targets[row] for row in rows.tolist()), self.now
        )


def take_histories(histories: Histories, rows: npt.NDArray[np.integer]) -> Histories:
    """Return the histories at the given positions."""
    return Histories(
        histories.users[rows],
        histories.items[rows],
        histories.times[rows],
        histories.event_types[rows],
        histories.type_weights,
    )


def time_split(
    interactions: Interactions,
    cut: int,
    *,
    last: int = 200,
    max_users: int | None = None,
    seed: int = 0,
    target: int = PURCHASE_CODE,
) -> tuple[Interactions, HoldoutCases]:
    """Split at `cut` (UTC seconds): events before it for training, target events from it on.

    Returns from `cut` on cancel targets, but no training events.

    Args:
        interactions: all events.
        cut: the first second of the test.
        last: length t of the histories.
        max_users: maximum number of test users, a random sample.
        seed: seed of the sample.
        target: code of the event type of the targets, by default purchases.

    Raises:
        UsageError: there is no event of the target type from `cut` on, or no event before it.
    """
    before, after = interactions.split(cut)
    bought = after.where(after.event_type == target)
    users = np.unique(bought.user)
    if not len(users) or not len(before):
        side = "from" if not len(users) else "before"
        raise UsageError(f"no event to evaluate with {side} the cut; choose another number of test days")
    if max_users is not None and len(users) > max_users:
        users = np.sort(np.random.default_rng(seed).choice(users, max_users, replace=False))
    targets = tuple(np.unique(bought.item[bought.starts[user] : bought.starts[user + 1]]) for user in users)
    return before, HoldoutCases(before.histories(users, _max_history_length(before, users, last)), targets, cut)


def cutoff_for_fraction(interactions: Interactions, fraction: float) -> int:
    """Return the time (UTC seconds) after which about `fraction` of the events lie, at midnight if possible.

    Raises:
        UsageError: all events have the same time.
    """
    times = np.sort(interactions.time)
    if not len(times) or times[0] == times[-1]:
        raise UsageError("all events share one moment; there is nothing earlier to learn from")
    cut = int(times[int(len(times) * (1 - fraction))])
    day = cut - cut % DAY
    midnights = [midnight for midnight in (day, day + DAY) if times[0] < midnight <= times[-1]]
    if midnights:
        deviations = [abs(float((times >= midnight).mean()) - fraction) for midnight in midnights]
        return midnights[int(np.argmin(deviations))]
    return max(cut, int(times[0]) + 1)


def _max_history_length(interactions: Interactions, users: Sequence[int] | npt.NDArray[np.integer], last: int) -> int:
    """Return the length of the longest history, at most `last` and at least 1."""
    lengths = interactions.starts[np.asarray(users) + 1] - interactions.starts[np.asarray(users)]
    return int(min(last, max(1, lengths.max())))
