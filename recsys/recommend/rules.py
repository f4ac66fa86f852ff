"""What may not stand in a list: what is not sold, and what the user has bought already.

In: pairs of user and product with the source that proposed them. Out: (m,) bool, which stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.config import RuleSettings
from recsys.data.interactions import Histories, Interactions
from recsys.recommend.pairs import Pairs
from recsys.recommend.proposals import PURCHASE_CODE


class Available:
    """Only products that are sold."""

    name = "unavailable"

    def __init__(self, sellable: npt.NDArray[np.bool_]) -> None:
        self._sellable = sellable

    def keep(self, pairs: Pairs, _: Histories) -> npt.NDArray[np.bool_]:
        """Which pairs stay: (m,) bool."""
        return self._sellable[pairs.item]


class Seen:
    """Products the user has bought: never, or only by way of the repurchase source."""

    name = "seen"

    def __init__(self, interactions: Interactions, *, repurchase: int | None) -> None:
        """`repurchase` is the place of the source whose proposals stay; None = none stays."""
        self._interactions, self._repurchase = interactions, repurchase

    def keep(self, pairs: Pairs, histories: Histories) -> npt.NDArray[np.bool_]:
        """Which pairs stay: (m,) bool."""
        keys = bought(histories, self._interactions)
        again = np.isin(pairs.user * self._interactions.n_items + pairs.item, keys)
        return ~again if self._repurchase is None else ~again | pairs.held[:, self._repurchase]


def bought(histories: Histories, interactions: Interactions) -> npt.NDArray[np.int64]:
    """What each user bought, as position * n + product, sorted and distinct.

    Histories end after some events; what a known user bought before that is looked up.
    """
    n = interactions.n_items
    at, column = np.nonzero(histories.real & (histories.kinds == PURCHASE_CODE))
    known = np.flatnonzero(histories.users >= 0)
    starts = interactions.starts[histories.users[known]]
    lengths = interactions.starts[histories.users[known] + 1] - starts
    event = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    owner = np.repeat(known, lengths)
    own = interactions.kind[event] == PURCHASE_CODE
    shown = at * n + histories.items[at, column]
    return np.unique(np.concatenate([shown, owner[own] * n + interactions.item[event[own]]]))


def made(
    settings: RuleSettings,
    interactions: Interactions,
    *,
    sources: Sequence[str],
    sellable: npt.NDArray[np.bool_],
) -> list[Available | Seen]:
    """The rules that the settings ask for."""
    rules: list[Available | Seen] = []
    if settings.available_only:
        rules.append(Available(sellable))
    if settings.seen != "allow":
        place = list(sources).index("repurchase") if settings.seen == "repurchase" and "repurchase" in sources else None
        rules.append(Seen(interactions, repurchase=place))
    return rules
