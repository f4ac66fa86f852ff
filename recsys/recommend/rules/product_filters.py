"""Rules that depend on the product alone: `available_only`, `exclude`, `include`, `price_min`, `price_max`.

In: settings and the catalogue. Out: one mask of allowed products per rule; an error if no product is left.
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
from recsys.recommend.rules.price_filter import comparable_prices
from recsys.types import BoolArray, IntArray

logger = logging.getLogger(__name__)


class ProductFilter:
    """A rule about products, the same for all users.

    Attributes:
        name: name of the setting.
        allowed_mask: (n,) bool, products that may be recommended.
    """

    def __init__(self, name: str, allowed_mask: BoolArray) -> None:
        self.name, self.allowed_mask = name, allowed_mask

    def keep_mask(self, pairs: CandidatePairs, _: Histories) -> BoolArray:
        """Return which pairs stay: (m,) bool."""
        return self.allowed_mask[pairs.item]

    def excluded_pairs(self, _: Histories) -> IntArray:
        """Return no pairs: the backfill takes products of `allowed_products` only."""
        return np.zeros(0, np.int64)


def build_product_filters(settings: RuleSettings, catalogue: Catalogue) -> list[ProductFilter]:
    """Build the product rules of the settings; warn about ids that no product has."""
    filters = [ProductFilter("available_only", catalogue.sellable)] if settings.available_only else []
    if settings.exclude:
        filters.append(ProductFilter("exclude", ~_id_mask("exclude", settings.exclude, catalogue)))
    if settings.include:
        filters.append(ProductFilter("include", _id_mask("include", settings.include, catalogue)))
    if settings.price_min or settings.price_max:
        price = comparable_prices(catalogue)
        if np.isnan(price).all():
            logger.warning("rules.price_min and price_max do nothing: no product has a price")
        # A product without a price stays: comparisons with NaN are false.
        if settings.price_min:
            filters.append(ProductFilter("price_min", ~(price < settings.price_min)))
        if settings.price_max:
            filters.append(ProductFilter("price_max", ~(price > settings.price_max)))
    return filters


def allowed_products(filters: Sequence[ProductFilter], catalogue: Catalogue) -> BoolArray:
    """Return the products that pass all filters: (n,) bool; search and backfill use only these.

    Raises:
        DataContractError: no product is available.
        ConfigError: products are available, but the rules exclude all of them.
    """
    allowed_mask = np.ones(len(catalogue), np.bool_)
    available_only = any(rule.name == "available_only" for rule in filters)
    if available_only and not catalogue.sellable.any():
        raise DataContractError(
            f"the rules leave no product: none of the {len(catalogue)} products is available; ingest products that are"
        )
    n_available = int(catalogue.sellable.sum()) if available_only else len(catalogue)
    counts = [f"{n_available} of {len(catalogue)} products are {'available' if available_only else 'in the catalogue'}"]
    for rule in filters:
        allowed_mask &= rule.allowed_mask
        if rule.name != "available_only":
            counts.append(f"{int(allowed_mask.sum())} after {rule.name}")
    if not allowed_mask.any():
        raise ConfigError(f"the rules leave no product: {', '.join(counts)}; change [rules]")
    return allowed_mask


def _id_mask(setting: str, ids: Sequence[str], catalogue: Catalogue) -> BoolArray:
    """Mark the products with these ids: (n,) bool; warn about unknown ids."""
    rows = catalogue.ids.rows(ids)
    unknown_ids = [name for name, row in zip(ids, rows.tolist(), strict=True) if row < 0]
    if unknown_ids:
        more = f" (and {len(unknown_ids) - 1} more of its ids)" if len(unknown_ids) > 1 else ""
        hint = suggestion(unknown_ids[0], catalogue.ids.texts)
        logger.warning("rules.%s: there is no product '%s'%s%s", setting, unknown_ids[0], more, hint)
    out = np.zeros(len(catalogue), np.bool_)
    out[rows[rows >= 0]] = True
    return out
