"""The rules of a shop: what may not stand in a list, and what a list as a whole must be.

In: settings, catalogue, interactions. Out: `RuleSet`: those that strike out candidates before the ranker
(`CandidateFilter`) and those that choose among the ranked ones (`rules_list.ListConstraint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.config import RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.product_columns import category_codes, new_product_mask
from recsys.recommend.candidates.source import CandidatePairs
from recsys.recommend.rules import list_constraints as rules_list
from recsys.recommend.rules import product_filters as rules_products
from recsys.recommend.rules.price_filter import PriceRangeFilter, prices_of
from recsys.recommend.rules.product_filters import ProductFilter
from recsys.recommend.rules.purchase_filters import (
    PurchasedFilter,
    ReplenishmentFilter,
    replenishment_days,
)
from recsys.types import BoolArray, IntArray


class CandidateFilter(Protocol):
    """A rule before the ranker: it strikes out pairs of user and product, looking at nothing else in the list."""

    @property
    def name(self) -> str:
        """The setting's name; what it strikes out is counted under it."""
        ...

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        ...

    def excluded_items(self, histories: Histories) -> IntArray:
        """What the fallback may not take either, as position * n + product; nothing if the rule is soft."""
        ...


@dataclass(frozen=True)
class RuleSet:
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

    filters: Sequence[CandidateFilter]
    lists: Sequence[rules_list.ListConstraint]
    allowed: BoolArray

    @property
    def products(self) -> list[ProductFilter]:
        """The rules about products alone."""
        return [rule for rule in self.filters if isinstance(rule, ProductFilter)]

    def barred(self, histories: Histories) -> IntArray:
        """What the fallback may not take although `allowed`: position * n + product, unsorted."""
        return np.concatenate([np.zeros(0, np.int64), *(rule.excluded_items(histories) for rule in self.filters)])


def training_filters(
    settings: RuleSettings, interactions: Interactions, *, sources: Sequence[str], sellable: BoolArray
) -> list[CandidateFilter]:
    """The rules the ranker is fitted under: `available_only` and `seen`.

    All others come and go with prices and campaigns, and shall not ask for a new ranker.
    """
    rules: list[CandidateFilter] = [ProductFilter("available_only", sellable)] if settings.available_only else []
    return rules + _seen(settings, interactions, sources, None)


def build_rules(
    settings: RuleSettings, catalogue: Catalogue, interactions: Interactions, *, sources: Sequence[str], now: int
) -> RuleSet:
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
    products = rules_products.build_product_filters(settings, catalogue)
    allowed = rules_products.allowed_products(products, catalogue)
    striking: list[CandidateFilter] = [*products]
    days = replenishment_days(settings.replenish_days, catalogue) if settings.replenish_days else None
    striking += _seen(settings, interactions, sources, None if days is None else ~np.isnan(days))
    if days is not None:
        striking.append(ReplenishmentFilter(interactions, days=days, now=now))
    if settings.price_factor:
        factor = settings.price_factor
        striking.append(PriceRangeFilter(interactions, prices=prices_of(catalogue), factor=factor))
    lists: list[rules_list.ListConstraint] = [
        rules_list.MaxPerValue(name, most, category_codes(catalogue, name, setting="rules.caps"))
        for name, most in settings.caps.items()
    ]
    if settings.min_new:
        new = new_product_mask(catalogue, interactions, now=now, days=settings.new_days, unsold=True)
        lists.append(rules_list.MinNewProducts(settings.min_new, new))
    return RuleSet(striking, lists, allowed)


def _seen(
    settings: RuleSettings, interactions: Interactions, sources: Sequence[str], replenished: BoolArray | None
) -> list[CandidateFilter]:
    if settings.seen == "allow":
        return []
    place = list(sources).index("repurchase") if settings.seen == "repurchase" and "repurchase" in sources else None
    return [PurchasedFilter(interactions, repurchase=place, replenished=replenished)]
