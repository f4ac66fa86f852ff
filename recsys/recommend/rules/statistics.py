"""Count the effects of the rules on the recommendations: filtered, moved, backfilled, missing.

In: one update per batch of users. Out: a dict for the run's metrics, table rows, warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from recsys.recommend.recommendations import Recommendations
from recsys.recommend.rules.list_constraints import MinNewProducts, Selection
from recsys.recommend.rules.rule_set import RuleSet

OVER_CAP, POPULAR = "over_a_cap", "popular"
"""The fallbacks, in the order in which they are used."""


class RuleStats:
    """Counts since the recommender was created.

    Attributes:
        n_lists: recommendation lists.
        excluded_products: per product rule, products it excludes.
        filtered_pairs: per rule, (user, product) pairs removed; a pair counts for the first rule only.
        moved_products: per rule, products among a user's k best that it moved down or out.
        filled_positions: per fallback, positions it filled.
        new_missing: positions that `min_new` requires and no new candidate took.
        short_lists: lists with fewer than k products.
        empty_lists: lists without a product.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._min_new = next((rule for rule in rules.list_constraints if isinstance(rule, MinNewProducts)), None)
        self.excluded_products = {rule.name: int((~rule.allowed_mask).sum()) for rule in rules.product_filters}
        self.filtered_pairs = Counter({rule.name: 0 for rule in rules.filters})
        self.moved_products = Counter({rule.name: 0 for rule in rules.list_constraints})
        self.filled_positions = Counter({OVER_CAP: 0, POPULAR: 0})
        self.n_lists = self.new_missing = self.short_lists = self.empty_lists = 0

    def add_selection(self, selection: Selection) -> None:
        """Add the counts of a selection under the list constraints."""
        self.moved_products.update(selection.moved_counts)
        self.filled_positions[OVER_CAP] += selection.n_over_cap

    def add_recommendations(self, recommendations: Recommendations, n_users: int, k: int, *, n_backfilled: int) -> None:
        """Add finished lists of `n_users` users; `n_backfilled` of their positions are popular products."""
        lengths = np.bincount(recommendations.user, minlength=n_users)
        self.n_lists += n_users
        self.filled_positions[POPULAR] += n_backfilled
        self.short_lists += int((lengths < k).sum())
        self.empty_lists += int((lengths == 0).sum())
        if self._min_new is not None:
            n_new = np.bincount(recommendations.user, self._min_new.new_mask[recommendations.item], minlength=n_users)
            self.new_missing += int(np.maximum(min(self._min_new.min_count, k) - n_new, 0).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return all counts, for the run's metrics."""
        return {
            "lists": self.n_lists,
            "products_barred": self.excluded_products,
            "pairs_struck": dict(self.filtered_pairs),
            "places_moved": dict(self.moved_products),
            "places_filled": dict(self.filled_positions),
            "new_missing": self.new_missing,
            "lists_short": self.short_lists,
            "lists_empty": self.empty_lists,
        }


def merge_rule_stats(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the counts (`RuleStats.to_dict`) of several recommenders with the same rules; {} without any."""
    merged: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            if name == "products_barred" or name not in merged:
                merged[name] = value  # the excluded products are the same for all recommenders
            elif isinstance(value, Mapping):
                merged[name] = {rule: merged[name].get(rule, 0) + count for rule, count in value.items()}
            else:
                merged[name] += value
    return merged


def rule_stats_rows(document: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return rows of rule, description of the count, count; none for an empty document."""
    if not document:
        return []
    return [
        *((name, "products excluded", count) for name, count in document["products_barred"].items()),
        *((name, "pairs filtered out", count) for name, count in document["pairs_struck"].items()),
        *((name, "products moved", count) for name, count in document["places_moved"].items()),
        *((name, "positions filled", count) for name, count in document["places_filled"].items()),
        *(
            [("min_new", "positions without a new product", document["new_missing"])]
            if MinNewProducts.name in document["places_moved"]
            else []
        ),
        ("all", "lists shorter than k", document["lists_short"]),
        ("all", "lists without a product", document["lists_empty"]),
    ]


def rule_stats_warnings(document: Mapping[str, Any]) -> list[str]:
    """Return warnings about rules that could not be met."""
    messages = []
    if document.get("new_missing"):
        messages.append(
            f"rules.min_new: {document['new_missing']} positions went to products that are not new, because there were "
            "not enough new candidates; raise rules.new_days or recommend.candidates"
        )
    if document.get("lists_short"):
        messages.append(
            f"{document['lists_short']} of {document['lists']} lists are shorter than k: the rules leave no further "
            "product"
        )
    return messages
