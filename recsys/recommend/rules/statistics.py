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
        self._min_new = next((rule for rule in rules.lists if isinstance(rule, MinNewProducts)), None)
        self.excluded = {rule.name: int((~rule.allowed).sum()) for rule in rules.products}
        self.filtered = Counter({rule.name: 0 for rule in rules.filters})
        self.moved = Counter({rule.name: 0 for rule in rules.lists})
        self.filled = Counter({OVER_CAP: 0, POPULAR: 0})
        self.lists = self.new_missing = self.short = self.empty = 0

    def chosen(self, choice: Selection) -> None:
        """Add the counts of a selection under the list constraints."""
        self.moved.update(choice.moved)
        self.filled[OVER_CAP] += choice.over

    def made(self, lists: Recommendations, users: int, k: int, *, popular: int) -> None:
        """Add finished lists of `n_users` users; `n_backfilled` of their positions are popular products."""
        lengths = np.bincount(lists.user, minlength=users)
        self.lists += users
        self.filled[POPULAR] += popular
        self.short += int((lengths < k).sum())
        self.empty += int((lengths == 0).sum())
        if self._min_new is not None:
            n_new = np.bincount(lists.user, self._min_new.new[lists.item], minlength=users)
            self.new_missing += int(np.maximum(min(self._min_new.least, k) - n_new, 0).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return all counts, for the run's metrics."""
        return {
            "lists": self.lists,
            "products_barred": self.excluded,
            "pairs_struck": dict(self.filtered),
            "places_moved": dict(self.moved),
            "places_filled": dict(self.filled),
            "new_missing": self.new_missing,
            "lists_short": self.short,
            "lists_empty": self.empty,
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


def rows(document: Mapping[str, Any]) -> list[tuple[str, str, int]]:
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


def warnings(document: Mapping[str, Any]) -> list[str]:
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
