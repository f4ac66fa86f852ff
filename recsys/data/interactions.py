"""User-product events as flat arrays sorted by (user, time, item).

In: user and product rows, UTC seconds, event codes, weights. Out: histories of users, splits by time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.errors import DataContractError
from recsys.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Histories:
    """The last t events of b users, newest last, left-padded with item -1.

    Attributes:
        users: (b,) int64 user rows (or -1 for a user unknown to the data).
        items: (b, t) int64 product rows, -1 = no event.
        times: (b, t) int64 UTC seconds, 0 where there is no event.
        event_types: (b, t) int8 event codes (schema.EVENT_TYPES), 0 where there is no event.
    """

    users: IntArray
    items: IntArray
    times: IntArray
    event_types: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def mask(self) -> BoolArray:
        """(b, t) bool: whether there is an event."""
        return self.items >= 0


@dataclass(frozen=True)
class Interactions:
    """Events sorted by (user, time, item); u users, n products.

    Attributes:
        user: (e,) int64 rows 0..u-1.
        item: (e,) int64 rows 0..n-1.
        time: (e,) int64 UTC seconds.
        event_type: (e,) int8 codes (schema.EVENT_TYPES).
        weight: (e,) float32, quantity times the weight of the event type.
        starts: (u + 1,) int64, user i's events are starts[i]:starts[i+1].
        n_items: n.
    """

    user: IntArray
    item: IntArray
    time: IntArray
    event_type: npt.NDArray[np.int8]
    weight: FloatArray
    starts: IntArray
    n_items: int

    @staticmethod
    def from_events(
        *,
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        time: npt.NDArray[np.integer],
        event_type: npt.NDArray[np.integer] | None = None,
        weight: npt.NDArray[np.floating] | None = None,
        n_users: int,
        n_items: int,
    ) -> Interactions:
        """Sort and check events; equal ones keep their order.

        Raises:
            DataContractError: a row is outside 0..u-1 or 0..n-1, or lengths differ.
        """
        lengths = {len(user), len(item), len(time)}
        if len(lengths) != 1:
            raise DataContractError(f"events: columns differ in length {sorted(lengths)}")
        for name, rows, bound in (("user", user, n_users), ("item", item, n_items)):
            if len(rows) and (rows.min() < 0 or rows.max() >= bound):
                raise DataContractError(f"events: {name} row outside 0..{bound - 1}")
        order = np.lexsort((item, time, user))
        sorted_user = user[order].astype(np.int64)
        arrays = (
            sorted_user,
            item[order].astype(np.int64),
            time[order].astype(np.int64),
            (np.zeros(len(user), np.int8) if event_type is None else event_type[order].astype(np.int8)),
            (np.ones(len(user), np.float32) if weight is None else weight[order].astype(np.float32)),
            np.searchsorted(sorted_user, np.arange(n_users + 1)).astype(np.int64),
        )
        for array in arrays:
            array.flags.writeable = False
        return Interactions(*arrays, n_items=n_items)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """Number of users u."""
        return len(self.starts) - 1

    def where(self, keep: BoolArray) -> Interactions:
        """Return the events where `keep` (e,) is true; users and products keep their rows."""
        return Interactions.from_events(
            user=self.user[keep],
            item=self.item[keep],
            time=self.time[keep],
            event_type=self.event_type[keep],
            weight=self.weight[keep],
            n_users=self.n_users,
            n_items=self.n_items,
        )

    def split(self, cut: int) -> tuple[Interactions, Interactions]:
        """Return the events before `cut` (UTC seconds) and those from `cut` on."""
        before = self.time < cut
        return self.where(before), self.where(~before)

    def histories(self, users: npt.NDArray[np.integer], last: int) -> Histories:
        """Return the last `last` events of each user, newest in the last column; user -1 has none."""
        rows = np.asarray(users, np.int64)
        is_known = rows >= 0
        ends = np.where(is_known, self.starts[np.where(is_known, rows, 0) + 1], 0)
        begins = np.where(is_known, self.starts[np.where(is_known, rows, 0)], 0)
        positions = ends[:, None] - last + np.arange(last)[None, :]
        is_event = positions >= begins[:, None]
        positions = np.where(is_event, positions, 0)
        if len(self) == 0:
            empty = np.zeros(positions.shape, np.int64)
            return Histories(rows, empty - 1, empty, empty.astype(np.int8))
        return Histories(
            rows,
            np.where(is_event, self.item[positions], -1),
            np.where(is_event, self.time[positions], 0),
            np.where(is_event, self.event_type[positions], 0).astype(np.int8),
        )

    def counts(self) -> IntArray:
        """Return the number of events of each product: (n,) int64."""
        return np.bincount(self.item, minlength=self.n_items).astype(np.int64)
