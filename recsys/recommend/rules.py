"""What may not stand in a list: what is not sold, and what the user has bought already.

In: pairs of user and product with the source that proposed them. Out: (m,) bool, which stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.config import RuleSettings
from recsys.data.interactions import Histories
from recsys.recommend.features import Pairs
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

    def __init__(self, *, repurchase: int | None, n_items: int) -> None:
        """`repurchase` is the place of the source whose proposals stay; None = none stays."""
        self._repurchase, self._n = repurchase, n_items

    def keep(self, pairs: Pairs, histories: Histories) -> npt.NDArray[np.bool_]:
        """Which pairs stay: (m,) bool."""
        keys = bought(histories, self._n)
        again = np.isin(pairs.user * self._n + pairs.item, keys)
        return ~again if self._repurchase is None else ~again | pairs.held[:, self._repurchase]


def bought(histories: Histories, n_items: int) -> npt.NDArray[np.int64]:
    """What each user bought, as user * n + product, sorted and distinct."""
    user, column = np.nonzero(histories.real & (histories.kinds == PURCHASE_CODE))
    return np.unique(user * n_items + histories.items[user, column])


def made(settings: RuleSettings, *, sources: Sequence[str], sellable: npt.NDArray[np.bool_]) -> list[Available | Seen]:
    """The rules that the settings ask for."""
    rules: list[Available | Seen] = []
    if settings.available_only:
        rules.append(Available(sellable))
    if settings.seen != "allow":
        place = list(sources).index("repurchase") if settings.seen == "repurchase" and "repurchase" in sources else None
        rules.append(Seen(repurchase=place, n_items=len(sellable)))
    return rules
