"""The business rules of a project: filters on candidates before the ranker, constraints on the list after it.

In: settings, catalogue, interactions. Out: `RuleSet`, with `CandidateFilter` and `list_constraints.ListConstraint`
rules.
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
from recsys.recommend.rules.list_constraints import ListConstraint, MaxPerValue, MinNewProducts
from recsys.recommend.rules.price_filter import PriceRangeFilter, comparable_prices
from recsys.recommend.rules.product_filters import ProductFilter, allowed_products, build_product_filters
from recsys.recommend.rules.purchase_filters import (
    PurchasedFilter,
    ReplenishmentFilter,
    ReturnedFilter,
    replenishment_days,
)
from recsys.types import BoolArray, IntArray


class CandidateFilter(Protocol):
    """A rule before the ranker: removes (user, product) pairs independently of the rest of the list."""

    @property
    def name(self) -> str:
        """The setting's name; pairs it removes are counted under it."""
        ...

    def keep_mask(self, pairs: CandidatePairs, histories: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        ...

    def excluded_pairs(self, histories: Histories) -> IntArray:
        """Return the pairs that the backfill must not add, as position * n + product; none if the rule is soft."""
        ...


@dataclass(frozen=True)
class RuleSet:
    """All rules of a project, and the order in which a list is filled to k positions.

    1. candidates that pass all rules, in the order of the ranker (or of diversity and calibration);
    2. candidates that only a cap excludes, by descending score;
    3. the most popular products that the hard rules allow: available, not in `exclude`, in `include` if it is set,
       within `price_min` and `price_max`, by `seen` and `replenish_days` not bought (recently), and not sent back.

    Hard rules are never relaxed: where they leave fewer than k products, the list is shorter. `price_factor`, `caps`
    and `min_new` are soft.

    Attributes:
        filters: rules before the ranker, in order; a pair counts for the first rule that removes it.
        list_constraints: rules after the ranker.
        allowed_mask: (n,) bool, products that pass all product rules.
    """

    filters: Sequence[CandidateFilter]
    list_constraints: Sequence[ListConstraint]
    allowed_mask: BoolArray

    @property
    def product_filters(self) -> list[ProductFilter]:
        """The rules that depend on the product alone."""
        return [rule for rule in self.filters if isinstance(rule, ProductFilter)]

    def excluded_pairs(self, histories: Histories) -> IntArray:
        """Return the pairs of allowed products that the backfill must not add: position * n + product, unsorted."""
        return np.concatenate([np.zeros(0, np.int64), *(rule.excluded_pairs(histories) for rule in self.filters)])


def build_training_filters(
    settings: RuleSettings, interactions: Interactions, *, sources: Sequence[str], sellable: BoolArray
) -> list[CandidateFilter]:
    """Build the filters that apply while the ranker is fitted: `available_only`, `seen` and `returned`.

    All other rules change with prices and campaigns, and must not require a new ranker.
    """
    filters: list[CandidateFilter] = [ProductFilter("available_only", sellable)] if settings.available_only else []
    return (
        filters + _build_purchased_filter(settings, interactions, sources, None) + _build_returned_filter(interactions)
    )


def build_rules(
    settings: RuleSettings, catalogue: Catalogue, interactions: Interactions, *, sources: Sequence[str], now: int
) -> RuleSet:
    """Build all rules of the settings.

    Args:
        settings: the section [rules].
        catalogue: n products.
        interactions: purchases of all users.
        sources: names of the candidate sources, in order.
        now: UTC seconds at which recommendations are made.

    Raises:
        ConfigError: a cap names an unknown column, or no product is left.
        DataContractError: no product is available.
    """
    product_filters = build_product_filters(settings, catalogue)
    allowed_mask = allowed_products(product_filters, catalogue)
    filters: list[CandidateFilter] = [*product_filters]
    days = replenishment_days(settings.replenish_days, catalogue) if settings.replenish_days else None
    filters += _build_purchased_filter(settings, interactions, sources, None if days is None else ~np.isnan(days))
    filters += _build_returned_filter(interactions)
    if days is not None:
        filters.append(ReplenishmentFilter(interactions, days=days, now=now))
    if settings.price_factor:
        factor = settings.price_factor
        filters.append(PriceRangeFilter(interactions, prices=comparable_prices(catalogue), factor=factor))
    constraints: list[ListConstraint] = [
        MaxPerValue(column, max_count, category_codes(catalogue, column, setting="rules.caps"))
        for column, max_count in settings.caps.items()
    ]
    if settings.min_new:
        new_mask = new_product_mask(catalogue, interactions, now=now, days=settings.new_days, unsold=True)
        constraints.append(MinNewProducts(settings.min_new, new_mask))
    return RuleSet(filters, constraints, allowed_mask)


def _build_purchased_filter(
    settings: RuleSettings, interactions: Interactions, sources: Sequence[str], replenishable: BoolArray | None
) -> list[CandidateFilter]:
    if settings.seen == "allow":
        return []
    source = list(sources).index("repurchase") if settings.seen == "repurchase" and "repurchase" in sources else None
    return [PurchasedFilter(interactions, repurchase_source=source, replenishable=replenishable)]


def _build_returned_filter(interactions: Interactions) -> list[CandidateFilter]:
    return [] if interactions.versions is None else [ReturnedFilter(interactions)]
