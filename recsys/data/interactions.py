"""User-product events as flat arrays sorted by (user, time, item).

In: user and product rows, UTC seconds, event codes, weights; what returns changed. Out: histories of users, the events
as they were known at a time, splits by time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.config import DataSettings
from recsys.data.schema import EVENT_TYPES, PURCHASE_CODE, RETURN_CODE
from recsys.errors import DataContractError
from recsys.types import BoolArray, FloatArray, IntArray

FOREVER: Final = int(np.iinfo(np.int64).max)
"""`EventVersions.until` of a version that still holds."""


def type_weights(event_weights: Mapping[str, float]) -> tuple[float, ...]:
    """Return the weight of each event type in the order of the codes; 0 for a type without an entry."""
    return tuple(float(event_weights.get(name, 0.0)) for name in EVENT_TYPES)


DEFAULT_TYPE_WEIGHTS: Final = type_weights(DataSettings().event_weights)
"""The defaults of `[data] event_weights`, by event code."""


@dataclass(frozen=True)
class Histories:
    """The last t events of b users, newest last, left-padded with item -1.

    Attributes:
        users: (b,) int64 user rows (or -1 for a user unknown to the data).
        items: (b, t) int64 product rows, -1 = no event.
        times: (b, t) int64 UTC seconds, 0 where there is no event.
        event_types: (b, t) int8 event codes (schema.EVENT_TYPES), 0 where there is no event.
        type_weights: weight of each event code as a sign of taste.
    """

    users: IntArray
    items: IntArray
    times: IntArray
    event_types: npt.NDArray[np.int8]
    type_weights: tuple[float, ...] = DEFAULT_TYPE_WEIGHTS

    def __len__(self) -> int:
        return len(self.users)

    @property
    def mask(self) -> BoolArray:
        """(b, t) bool: whether there is an event."""
        return self.items >= 0


@dataclass(frozen=True)
class EventVersions:
    """The purchases of the (user, product) pairs with a return, as they were known at any time; r rows.

    A purchase has one row per quantity it had: of ten packs, one of which was sent back, a row of ten until then, and
    a row of nine since. A row of type return says that the user had nothing left of the product.

    Attributes:
        user: (r,) int64 user rows.
        item: (r,) int64 product rows.
        time: (r,) int64 UTC seconds of the event.
        event_type: (r,) int8 codes, purchase or return.
        weight: (r,) float32, as in `Interactions`; 0 for returns.
        since: (r,) int64, the row holds after this moment.
        until: (r,) int64, the row holds up to this moment, FOREVER = still.
    """

    user: IntArray
    item: IntArray
    time: IntArray
    event_type: npt.NDArray[np.int8]
    weight: FloatArray
    since: IntArray
    until: IntArray

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: BoolArray) -> EventVersions:
        """Return the rows where `keep` (r,) is true."""
        return EventVersions(*(getattr(self, field.name)[keep] for field in fields(self)))

    def before(self, limit: IntArray) -> EventVersions:
        """Return what was known before `limit` (r,), the moment of each row: later changes are undone."""
        known = self.where(self.since < limit)
        limit = limit[self.since < limit]
        return replace(known, until=np.where(known.until < limit, known.until, FOREVER))


@dataclass(frozen=True)
class Interactions:
    """Events sorted by (user, time, item); u users, n products.

    Returns are no events: they reduce the purchases they cancel (`data.returns`).

    Attributes:
        user: (e,) int64 rows 0..u-1.
        item: (e,) int64 rows 0..n-1.
        time: (e,) int64 UTC seconds.
        event_type: (e,) int8 codes (schema.EVENT_TYPES).
        weight: (e,) float32, quantity times the weight of the event type.
        starts: (u + 1,) int64, user i's events are starts[i]:starts[i+1].
        n_items: n.
        type_weights: weight of each event code as a sign of taste (`[data] event_weights`).
        versions: what returns changed; None = no return.
    """

    user: IntArray
    item: IntArray
    time: IntArray
    event_type: npt.NDArray[np.int8]
    weight: FloatArray
    starts: IntArray
    n_items: int
    type_weights: tuple[float, ...] = DEFAULT_TYPE_WEIGHTS
    versions: EventVersions | None = None

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
        type_weights: tuple[float, ...] = DEFAULT_TYPE_WEIGHTS,
        versions: EventVersions | None = None,
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
        if versions is not None and not len(versions):
            versions = None
        return Interactions(*arrays, n_items=n_items, type_weights=type_weights, versions=versions)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """Number of users u."""
        return len(self.starts) - 1

    @property
    def last_time(self) -> int:
        """UTC seconds of the newest event or return, -1 without any."""
        newest = int(self.time.max(initial=-1))
        if self.versions is None:
            return newest
        until = self.versions.until[self.versions.until < FOREVER]
        return max(newest, int(self.versions.since.max()), int(until.max(initial=-1)))

    def where(self, keep: BoolArray, *, versions: EventVersions | None = None) -> Interactions:
        """Return the events where `keep` (e,) is true; users and products keep their rows.

        Args:
            keep: (e,) bool.
            versions: what returns changed among the events that stay; without it, their past is not known.
        """
        return Interactions.from_events(
            user=self.user[keep],
            item=self.item[keep],
            time=self.time[keep],
            event_type=self.event_type[keep],
            weight=self.weight[keep],
            n_users=self.n_users,
            n_items=self.n_items,
            type_weights=self.type_weights,
            versions=versions,
        )

    def of_users(self, mask: BoolArray) -> Interactions:
        """Return the events of the users where `mask` (u,) is true."""
        versions = None if self.versions is None else self.versions.where(mask[self.versions.user])
        return self.where(mask[self.user], versions=versions)

    def as_of(self, cut: int | IntArray) -> Interactions:
        """Return the events before `cut` as they were known then: returns from `cut` on have cancelled nothing.

        Args:
            cut: UTC seconds, for all users or (u,) of each user.
        """
        limit = np.broadcast_to(np.asarray(cut, np.int64), (self.n_users,))
        before = self.time < (limit[self.user] if isinstance(cut, np.ndarray) else cut)
        if self.versions is None:
            return self.where(before)
        known = self.versions.before(limit[self.versions.user])
        held = known.where((known.event_type == PURCHASE_CODE) & (known.until == FOREVER))
        pairs = np.unique(self.versions.user * self.n_items + self.versions.item)
        has_versions = (self.event_type == PURCHASE_CODE) & np.isin(self.user * self.n_items + self.item, pairs)
        others = before & ~has_versions
        columns = {
            name: np.concatenate([getattr(self, name)[others], getattr(held, name)])
            for name in ("user", "item", "time", "event_type", "weight")
        }
        # Events of one user, product and second stay in the order in which the store lists them: by type.
        rank = np.argsort(np.argsort(np.array(EVENT_TYPES)))
        by_type = np.argsort(rank[columns["event_type"]], kind="stable")
        return Interactions.from_events(
            **{name: column[by_type] for name, column in columns.items()},
            n_users=self.n_users,
            n_items=self.n_items,
            type_weights=self.type_weights,
            versions=known,
        )

    def split(self, cut: int) -> tuple[Interactions, Interactions]:
        """Return the events before `cut` (UTC seconds) as they were known then, and those from `cut` on."""
        return self.as_of(cut), self.where(self.time >= cut)

    def returned_pairs(self) -> tuple[IntArray, IntArray]:
        """Return user and product of the pairs of which the user sent all back: (p,), (p,), sorted and distinct."""
        empty = np.zeros(0, np.int64)
        if self.versions is None:
            return empty, empty
        versions = self.versions
        returned = (versions.event_type == RETURN_CODE) & (versions.until == FOREVER)
        keys = np.unique(versions.user[returned] * self.n_items + versions.item[returned])
        return keys // self.n_items, keys % self.n_items

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
            return Histories(rows, empty - 1, empty, empty.astype(np.int8), self.type_weights)
        return Histories(
            rows,
            np.where(is_event, self.item[positions], -1),
            np.where(is_event, self.time[positions], 0),
            np.where(is_event, self.event_type[positions], 0).astype(np.int8),
            self.type_weights,
        )

    def has_events(self) -> BoolArray:
        """Return which products have an event, also one that returns have cancelled: (n,) bool."""
        has_event = self.counts() > 0
        if self.versions is not None:
            has_event[self.versions.item] = True
        return has_event

    def counts(self) -> IntArray:
        """Return the number of events of each product: (n,) int64."""
        return np.bincount(self.item, minlength=self.n_items).astype(np.int64)
