"""Rules about products alone: not sold, not in the campaign, struck from all lists, too cheap, too dear.

In: settings and the catalogue. Out: one flag a product and rule; an error when no product is left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from recsys.config import RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories
from recsys.errors import ConfigError, DataContractError, suggestion
from recsys.recommend.candidates.source import CandidatePairs
from recsys.recommend.rules.price_filter import prices_of
from recsys.types import BoolArray, IntArray

logger = logging.getLogger(__name__)


class ProductFilter:
    """Products that may be recommended, the same for all users.

    Attributes:
        name: of the setting.
        allowed: (n,) bool.
    """

    def __init__(self, name: str, allowed: BoolArray) -> None:
        self.name, self.allowed = name, allowed

    def keep_mask(self, pairs: CandidatePairs, _: Histories) -> BoolArray:
        """Which pairs stay: (m,) bool."""
        return self.allowed[pairs.item]

    def excluded_items(self, _: Histories) -> IntArray:
        """Nothing by user: the fallback takes from `allowed_products` alone."""
        return np.zeros(0, np.int64)


def build_product_filters(settings: RuleSettings, catalogue: Catalogue) -> list[ProductFilter]:
    """The rules about products that the settings ask for; ids that no product has are warned about."""
    made = [ProductFilter("available_only", catalogue.sellable)] if settings.available_only else []
    if settings.exclude:
        made.append(ProductFilter("exclude", ~_named("exclude", settings.exclude, catalogue)))
    if settings.include:
        made.append(ProductFilter("include", _named("include", settings.include, catalogue)))
    if settings.price_min or settings.price_max:
        price = prices_of(catalogue)
        if np.isnan(price).all():
            logger.warning("rules.price_min and price_max do nothing: no product has a price")
        # A product without a price stays: NaN compares as false.
        if settings.price_min:
            made.append(ProductFilter("price_min", ~(price < settings.price_min)))
        if settings.price_max:
            made.append(ProductFilter("price_max", ~(price > settings.price_max)))
    return made


def allowed_products(made: Sequence[ProductFilter], catalogue: Catalogue) -> BoolArray:
    """Products that are sold and that all rules allow: (n,) bool. Lists are searched and filled from these.

    Raises:
        DataContractError: no product is available.
        ConfigError: products are available, but the rules leave none of them.
    """
    allowed = catalogue.sellable.copy()
    if not allowed.any():
        raise DataContractError(
            f"the rules leave no product: none of the {len(catalogue)} products is available; ingest products that are"
        )
    said = [f"{int(allowed.sum())} of {len(catalogue)} products are available"]
    for rule in made:
        allowed &= rule.allowed
        if rule.name != "available_only":
            said.append(f"{int(allowed.sum())} after {rule.name}")
    if not allowed.any():
        raise ConfigError(f"the rules leave no product: {', '.join(said)}; change [rules]")
    return allowed


def _named(setting: str, ids: Sequence[str], catalogue: Catalogue) -> BoolArray:
    """Products with these ids: (n,) bool."""
    rows = catalogue.ids.rows(ids)
    unknown = [name for name, row in zip(ids, rows.tolist(), strict=True) if row < 0]
    if unknown:
        more = f" (and {len(unknown) - 1} more of its ids)" if len(unknown) > 1 else ""
        near = suggestion(unknown[0], catalogue.ids.texts)
        logger.warning("rules.%s: there is no product '%s'%s%s", setting, unknown[0], more, near)
    out = np.zeros(len(catalogue), np.bool_)
    out[rows[rows >= 0]] = True
    return out
