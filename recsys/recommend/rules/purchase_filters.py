"""Rules about what the user has bought already: never again, only by way of repurchase, or only after some days.

In: histories and interactions. Out: (m,) bool, which pairs stay; keys of what nobody may put in a list.
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
OTHERS = "*"
"""In `replenish_days`: every category without an entry, and products without a category."""


class PurchasedFilter:
    """Products the user has bought: never, or only by way of the repurchase source."""

    name = "seen"

    def __init__(
        self, interactions: Interactions, *, repurchase: int | None, replenished: BoolArray | None = None
    ) -> None:
        """Note who decides.

        Args:
            interactions: who bought what.
            repurchase: place of the source whose proposals stay; None = none stays.
            replenished: (n,) products that `ReplenishmentFilter` decides about instead.
        """
        self._interactions, self._repurchase, self._replenished = interactions, repurchase, replenished

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        again = np.isin(pairs.user * self._interactions.n_items + pairs.item, self.excluded_items(histories))
        return ~again if self._repurchase is None else ~again | pairs.proposed_by[:, self._repurchase]

    def excluded_items(self, histories: Histories) -> IntArray:
        """What each user bought, as position * n + product."""
        keys = purchased_pairs(histories, self._interactions)
        return keys if self._replenished is None else keys[~self._replenished[keys % self._interactions.n_items]]


class ReplenishmentFilter:
    """A product comes back some days after its last purchase, by whatever source, and not before."""

    name = "replenish_days"

    def __init__(self, interactions: Interactions, *, days: DoubleArray, now: int) -> None:
        """`days` (n,) of each product, NaN = this rule does not decide about it; `now` in UTC seconds."""
        self._interactions, self._seconds, self._now = interactions, days * DAY, now

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        return ~np.isin(pairs.user * self._interactions.n_items + pairs.item, self.excluded_items(histories))

    def excluded_items(self, histories: Histories) -> IntArray:
        """What each user bought too short a time ago, as position * n + product."""
        key, time = purchase_times(histories, self._interactions)
        order = np.lexsort((time, key))
        key, time = key[order], time[order]
        last = np.r_[key[1:] != key[:-1], True][: len(key)]
        key, time = key[last], time[last]
        soon = time + self._seconds[key % self._interactions.n_items] > self._now  # NaN compares as false
        return np.asarray(key[soon], np.int64)


def purchase_times(histories: Histories, interactions: Interactions) -> tuple[IntArray, IntArray]:
    """Every purchase of each user, as position * n + product, and its time; one may stand twice.

    Histories end after some events; what a known user bought before that is looked up.
    """
    n = interactions.n_items
    at, column = np.nonzero(histories.mask & (histories.event_types == PURCHASE_CODE))
    known = np.flatnonzero(histories.users >= 0)
    starts = interactions.starts[histories.users[known]]
    lengths = interactions.starts[histories.users[known] + 1] - starts
    event = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    owner = np.repeat(known, lengths)
    own = interactions.event_type[event] == PURCHASE_CODE
    key = np.concatenate([at * n + histories.items[at, column], owner[own] * n + interactions.item[event[own]]])
    return key, np.concatenate([histories.times[at, column], interactions.time[event[own]]])


def purchased_pairs(histories: Histories, interactions: Interactions) -> IntArray:
    """What each user bought, as position * n + product, sorted and distinct."""
    return np.unique(purchase_times(histories, interactions)[0])


def replenishment_days(replenish: Mapping[str, float], catalogue: Catalogue) -> DoubleArray:
    """Days until each product may come back: (n,) float64, NaN = its category has no entry.

    A category that no product has is warned about.
    """
    frame = catalogue.frame
    held = frame[schema.CATEGORY].to_list() if schema.CATEGORY in frame.columns else [None] * len(catalogue)
    known = {name for name in held if name is not None}
    for name in sorted(set(replenish) - known - {OTHERS}):
        logger.warning("rules.replenish_days: no product has the category '%s'%s", name, suggestion(name, known))
    others = replenish.get(OTHERS, np.nan)
    return np.array([others if name is None else replenish.get(name, others) for name in held], np.float64)
