"""The rules of a shop: what may not stand in a list, and what a list as a whole must be.

In: settings, catalogue, interactions. Out: `Rules`: those that strike out candidates before the ranker
(`StrikingRule`) and those that choose among the ranked ones (`rules_list.ListRule`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.config import RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.product_columns import codes_of, new_products
from recsys.recommend.candidates.source import Pairs
from recsys.recommend.rules import list_constraints as rules_list
from recsys.recommend.rules import product_filters as rules_products
from recsys.recommend.rules.price_filter import PriceFactor, prices_of
from recsys.recommend.rules.product_filters import Products
from recsys.recommend.rules.purchase_filters import Replenish, Seen, bought, days_of
from recsys.types import BoolArray, IntArray

__all__ = ["Products", "Rules", "Seen", "StrikingRule", "assembled", "bought", "made"]


class StrikingRule(Protocol):
    """A rule before the ranker: it strikes out pairs of user and product, looking at nothing else in the list."""

    @property
    def name(self) -> str:
        """The setting's name; what it strikes out is counted under it."""
        ...

    def keep(self, pairs: Pairs, histories: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        ...

    def barred(self, histories: Histories) -> IntArray:
        """What the fallback may not take either, as position * n + product; nothing if the rule is soft."""
        ...


@dataclass(frozen=True)
class Rules:
    """All rules of a shop, and the order in which a list is filled to k places.

    1. candidates that pass all rules, in the order of the ranker (or of diversity and calibration);
    2. candidates that only a cap keeps out, by falling score;
    3. the most popular products that the hard rules allow: available, not in `exclude`, in `include` where there is
       one, within `price_min` and `price_max`, and by `seen` and `replenish_days` not bought (lately).

    Hard rules are never relaxed: where they leave fewer than k products, the list is shorter. `price_factor`, `caps`
    and `min_new` are soft.

    Attributes:
        striking: before the ranker, in order; a pair counts for the first that strikes it out.
        lists: after the ranker.
        allowed: (n,) bool, products that are sold and that no rule about products alone forbids.
    """

    striking: Sequence[StrikingRule]
    lists: Sequence[rules_list.ListRule]
    allowed: BoolArray

    @property
    def products(self) -> list[Products]:
        """The rules about products alone."""
        return [rule for rule in self.striking if isinstance(rule, Products)]

    def barred(self, histories: Histories) -> IntArray:
        """What the fallback may not take although `allowed`: position * n + product, unsorted."""
        return np.concatenate([np.zeros(0, np.int64), *(rule.barred(histories) for rule in self.striking)])


def made(
    settings: RuleSettings, interactions: Interactions, *, sources: Sequence[str], sellable: BoolArray
) -> list[StrikingRule]:
    """The rules the ranker is fitted under: `available_only` and `seen`.

    All others come and go with prices and campaigns, and shall not ask for a new ranker.
    """
    rules: list[StrikingRule] = [Products("available_only", sellable)] if settings.available_only else []
    return rules + _seen(settings, interactions, sources, None)


def assembled(
    settings: RuleSettings, catalogue: Catalogue, interactions: Interactions, *, sources: Sequence[str], now: int
) -> Rules:
    """All rules the settings ask for.

    Args:
        settings: the section [rules].
        catalogue: n products.
        interactions: who bought what.
        sources: names of the candidate sources in order.
        now: UTC seconds the lists are for.

    Raises:
        ConfigError: a cap names an unknown column, or no product is left.
        DataContractError: no product is available.
    """
    products = rules_products.of(settings, catalogue)
    allowed = rules_products.allowed_by(products, catalogue)
    striking: list[StrikingRule] = [*products]
    days = days_of(settings.replenish_days, catalogue) if settings.replenish_days else None
    striking += _seen(settings, interactions, sources, None if days is None else ~np.isnan(days))
    if days is not None:
        striking.append(Replenish(interactions, days=days, now=now))
    if settings.price_factor:
        factor = settings.price_factor
        striking.append(PriceFactor(interactions, prices=prices_of(catalogue), factor=factor))
    lists: list[rules_list.ListRule] = [
        rules_list.Cap(name, most, codes_of(catalogue, name, setting="rules.caps"))
        for name, most in settings.caps.items()
    ]
    if settings.min_new:
        new = new_products(catalogue, interactions, now=now, days=settings.new_days, unsold=True)
        lists.append(rules_list.MinNew(settings.min_new, new))
    return Rules(striking, lists, allowed)


def _seen(
    settings: RuleSettings, interactions: Interactions, sources: Sequence[str], replenished: BoolArray | None
) -> list[StrikingRule]:
    if settings.seen == "allow":
        return []
    place = list(sources).index("repurchase") if settings.seen == "repurchase" and "repurchase" in sources else None
    return [Seen(interactions, repurchase=place, replenished=replenished)]
