"""What the rules did to the lists made so far, in figures: struck out, moved, filled, missing.

In: one note a block of users. Out: a document for the run's metrics, rows for people.
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
"""The fallbacks, in their order."""


class RuleStats:
    """Counts of one recommender, from its making on.

    Attributes:
        lists: made.
        struck: by rule, pairs of user and product struck out; a pair counts for the first rule only.
        moved: by rule, products among a user's k best that it put further down or out.
        filled: by fallback, places it filled.
        new_missing: places that `min_new` asks for and no new candidate took.
        short: lists with fewer than k products.
        empty: lists with none.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._spare = next((rule for rule in rules.lists if isinstance(rule, MinNewProducts)), None)
        self.excluded = {rule.name: int((~rule.allowed).sum()) for rule in rules.products}
        self.filtered = Counter({rule.name: 0 for rule in rules.filters})
        self.moved = Counter({rule.name: 0 for rule in rules.lists})
        self.filled = Counter({OVER_CAP: 0, POPULAR: 0})
        self.lists = self.new_missing = self.short = self.empty = 0

    def chosen(self, choice: Selection) -> None:
        """Note what the rules about lists did."""
        self.moved.update(choice.moved)
        self.filled[OVER_CAP] += choice.over

    def made(self, lists: Recommendations, users: int, k: int, *, popular: int) -> None:
        """Note finished lists, and how many of their places were filled with what is popular."""
        lengths = np.bincount(lists.user, minlength=users)
        self.lists += users
        self.filled[POPULAR] += popular
        self.short += int((lengths < k).sum())
        self.empty += int((lengths == 0).sum())
        if self._spare is not None:
            new = np.bincount(lists.user, self._spare.new[lists.item], minlength=users)
            self.new_missing += int(np.maximum(min(self._spare.least, k) - new, 0).sum())

    def to_dict(self) -> dict[str, Any]:
        """All figures, for the run's metrics."""
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

    def rows(self) -> list[tuple[str, str, int]]:
        """Rule, what is counted, how often."""
        return rows(self.to_dict())

    def warnings(self) -> list[str]:
        """What whoever set the rules should know."""
        return warnings(self.to_dict())


def merge_rule_stats(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several recommenders of the same shop, as one `RuleStats.document`; {} of none."""
    whole: dict[str, Any] = {}
    for one in documents:
        for name, value in one.items():
            if name == "products_barred" or name not in whole:
                whole[name] = value  # products are barred once, whoever makes lists of the rest
            elif isinstance(value, Mapping):
                whole[name] = {rule: whole[name].get(rule, 0) + count for rule, count in value.items()}
            else:
                whole[name] += value
    return whole


def rows(document: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Rule, what is counted, how often; none of an empty document."""
    if not document:
        return []
    return [
        *((name, "products barred", count) for name, count in document["products_barred"].items()),
        *((name, "pairs struck out", count) for name, count in document["pairs_struck"].items()),
        *((name, "places moved", count) for name, count in document["places_moved"].items()),
        *((name, "places filled", count) for name, count in document["places_filled"].items()),
        *(
            [("min_new", "places without a new product", document["new_missing"])]
            if MinNewProducts.name in document["places_moved"]
            else []
        ),
        ("all", "lists shorter than k", document["lists_short"]),
        ("all", "lists without a product", document["lists_empty"]),
    ]


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What whoever set the rules should know."""
    said = []
    if document.get("new_missing"):
        said.append(
            f"rules.min_new: {document['new_missing']} places went to products that are not new, because there were "
            "not enough new candidates; raise rules.new_days or recommend.candidates"
        )
    if document.get("lists_short"):
        said.append(
            f"{document['lists_short']} of {document['lists']} lists are shorter than k: the rules leave no further "
            "product"
        )
    return said
