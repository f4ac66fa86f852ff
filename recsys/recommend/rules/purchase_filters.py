"""Rules about products the user has bought: never again, only repurchase candidates, or after days; and has sent back.

In: histories and interactions. Out: (m,) bool, which pairs stay; keys of pairs that no list may contain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.errors import suggestion
from recsys.recommend.candidates.source import CandidatePairs
from recsys.types import BoolArray, DoubleArray, IntArray

logger = logging.getLogger(__name__)
OTHER_CATEGORIES = "*"
"""Key in `replenish_days` for every category without an entry, and for products without a category."""


class PurchasedFilter:
    """The rule `seen`: removes products the user has bought, always or unless `repurchase_source` retrieved them."""

    name = "seen"

    def __init__(
        self, interactions: Interactions, *, repurchase_source: int | None, replenishable: BoolArray | None = None
    ) -> None:
        """Set up the rule.

        Args:
            interactions: purchases of all users.
            repurchase_source: position of the source whose candidates stay; None = none stay.
            replenishable: (n,) bool, products that `ReplenishmentFilter` decides about instead.
        """
        self._interactions, self._repurchase_source, self._replenishable = (
            interactions,
            repurchase_source,
            replenishable,
        )

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        purchased = np.isin(pairs.user * self._interactions.n_items + pairs.item, self.excluded_pairs(histories))
        if self._repurchase_source is None:
            return ~purchased
        return ~purchased | pairs.proposed_by[:, self._repurchase_source]

    def excluded_pairs(self, histories: Histories) -> IntArray:
        """Return each user's purchases, as position * n + product."""
        keys = purchased_pairs(histories, self._interactions)
        return keys if self._replenishable is None else keys[~self._replenishable[keys % self._interactions.n_items]]


class ReplenishmentFilter:
    """The rule `replenish_days`: a product returns some days after its last purchase, from any source."""

    name = "replenish_days"

    def __init__(self, interactions: Interactions, *, days: DoubleArray, now: int) -> None:
        """Take the days (n,) of each product, NaN = not covered by the rule, and `now` in UTC seconds."""
        self._interactions, self._seconds, self._now = interactions, days * DAY, now

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        return ~np.isin(pairs.user * self._interactions.n_items + pairs.item, self.excluded_pairs(histories))

    def excluded_pairs(self, histories: Histories) -> IntArray:
        """Return each user's purchases that are too recent, as position * n + product."""
        key, time = purchase_times(histories, self._interactions)
        order = np.lexsort((time, key))
        key, time = key[order], time[order]
        is_last = np.r_[key[1:] != key[:-1], True][: len(key)]
        key, time = key[is_last], time[is_last]
        too_recent = time + self._seconds[key % self._interactions.n_items] > self._now  # false for NaN
        return np.asarray(key[too_recent], np.int64)


class ReturnedFilter:
    """Removes products of which the user has sent everything back, from any source; bought again, they come back."""

    name = "returned"

    def __init__(self, interactions: Interactions) -> None:
        """Take the pairs from the events, see `Interactions.returned_pairs`."""
        self._n_items = interactions.n_items
        self._user, self._item = interactions.returned_pairs()

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        return ~np.isin(pairs.user * self._n_items + pairs.item, self.excluded_pairs(histories))

    def excluded_pairs(self, histories: Histories) -> IntArray:
        """Return the products each user sent back, as position * n + product."""
        starts, ends = (np.searchsorted(self._user, histories.users, side=side) for side in ("left", "right"))
        lengths = ends - starts
        row = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return np.asarray(np.repeat(np.arange(len(histories)), lengths) * self._n_items + self._item[row], np.int64)


def purchase_times(histories: Histories, interactions: Interactions) -> tuple[IntArray, IntArray]:
    """Return every purchase of each user, as position * n + product, and its time; purchases may be listed twice.

    Histories are truncated; the older purchases of users in `interactions` are looked up there.
    """
    n = interactions.n_items
    position, column = np.nonzero(histories.mask & (histories.event_types == PURCHASE_CODE))
    known_users = np.flatnonzero(histories.users >= 0)
    starts = interactions.starts[histories.users[known_users]]
    lengths = interactions.starts[histories.users[known_users] + 1] - starts
    event = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    event_user = np.repeat(known_users, lengths)
    is_purchase = interactions.event_type[event] == PURCHASE_CODE
    key = np.concatenate(
        [
            position * n + histories.items[position, column],
            event_user[is_purchase] * n + interactions.item[event[is_purchase]],
        ]
    )
    return key, np.concatenate([histories.times[position, column], interactions.time[event[is_purchase]]])


def purchased_pairs(histories: Histories, interactions: Interactions) -> IntArray:
    """Return each user's purchases, as position * n + product, sorted and distinct."""
    return np.unique(purchase_times(histories, interactions)[0])


def replenishment_days(replenish: Mapping[str, float], catalogue: Catalogue) -> DoubleArray:
    """Return the days until each product may be recommended again: (n,) float64, NaN = its category has no entry.

    Warns about categories that no product has.
    """
    frame = catalogue.frame
    categories = frame[schema.CATEGORY].to_list() if schema.CATEGORY in frame.columns else [None] * len(catalogue)
    known_names = {name for name in categories if name is not None}
    for name in sorted(set(replenish) - known_names - {OTHER_CATEGORIES}):
        hint = suggestion(name, known_names)
        logger.warning("rules.replenish_days: no product has the category '%s'%s", name, hint)
    default_days = replenish.get(OTHER_CATEGORIES, np.nan)
    return np.array(
        [default_days if name is None else replenish.get(name, default_days) for name in categories], np.float64
    )
