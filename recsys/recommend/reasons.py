"""Generate the reason sentence of each recommendation; a sentence states only what the data supports.

In: recommendations, product titles, purchases. Out: one sentence per recommendation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.data.schema import DAY, PURCHASE_CODE, RETURN_CODE
from recsys.recommend.recommendations import Recommendations
from recsys.types import BoolArray, IntArray

_EVENT_TYPE_PHRASES = {
    "purchase": "bought",
    "add_to_cart": "put in your cart",
    "view": "looked at",
    "wishlist": "wished for",
    "rating": "rated",
}
_MIN_SHARED_BUYERS = 3
"""Customers who bought both products, from which on the pair is 'often bought together'."""
_MIN_RECENT_USERS = 3
"""Customers in the last days, from which on a product is 'popular'."""
_POPULAR_SHARE = 4
"""'popular' are the products of the upper one in this many of those with a customer in the last days."""
ASSOCIATION_SOURCES = ("co_purchase", "transitions", "ease")
"""Sources that link products by what other customers did; their links are shown only if enough customers share them."""
_BLOCK_ROWS = 1024
"""Products whose pairs are counted at once; bounds memory."""


class ReasonGenerator:
    """Generates reason sentences from purchase counts that are computed once."""

    def __init__(
        self,
        catalogue: Catalogue,
        interactions: Interactions,
        *,
        sources: Sequence[str],
        now: int,
        popular_days: float,
        co_purchase_pairs: sparse.csr_matrix | None = None,
        min_customers: int = 3,
    ) -> None:
        """Count the buyers of products and pairs once; the cost of a sentence does not depend on the number of events.

        Args:
            catalogue: n products with titles.
            interactions: training events of the sources.
            sources: names of the candidate sources, in order.
            now: UTC seconds at which recommendations are made.
            popular_days: days before `now` that count for 'popular'.
            co_purchase_pairs: (n, n), row i holds the products that co_purchase can retrieve for product i; None
                without that source.
            min_customers: different customers who must share what a reason tells of them.
        """
        self._min_customers = min_customers
        self._catalogue, self._sources, self._is_one_week = catalogue, tuple(sources), popular_days == 7
        no_return, is_purchase = (interactions.event_type != RETURN_CODE, interactions.event_type == PURCHASE_CODE)
        # In a shop without purchases, what customers chose together stands for what they bought together.
        self._has_purchases = bool(is_purchase.any())
        self._shared_customers = (
            co_purchase_counts(interactions, co_purchase_pairs, is_purchase if self._has_purchases else no_return)
            if co_purchase_pairs is not None
            else None
        )
        recent = no_return & (interactions.time >= now - popular_days * DAY)
        item_user_keys = np.unique(interactions.item[recent] * interactions.n_users + interactions.user[recent])
        n_users = max(1, interactions.n_users)
        recent_users = np.bincount(item_user_keys // n_users, minlength=interactions.n_items)
        item_user_keys = np.unique(interactions.item[no_return] * interactions.n_users + interactions.user[no_return])
        self._total_users = np.bincount(item_user_keys // n_users, minlength=interactions.n_items)
        ranked = np.sort(recent_users[recent_users > 0])[::-1]
        n_popular = -(-len(ranked) // _POPULAR_SHARE)
        least = ranked[n_popular] + 1 if n_popular < len(ranked) else 0  # more than the first beyond the upper part
        self._is_popular = recent_users >= max(least, _MIN_RECENT_USERS, min_customers)

    def explain(self, recommendations: Recommendations) -> list[str]:
        """Return one sentence per recommendation: (m,)."""
        has_source_item = recommendations.source_item >= 0
        titles = np.full(len(recommendations.item), None, object)
        titles[has_source_item] = self._catalogue.titles(recommendations.source_item[has_source_item])
        names = np.array([*self._sources, "popular"], object)[recommendations.source]
        shared = self._count_shared(recommendations.source_item, recommendations.item)
        return [
            self._build_sentence(*row)
            for row in zip(
                names,
                titles,
                recommendations.item.tolist(),
                recommendations.event_type.tolist(),
                shared.tolist(),
                strict=True,
            )
        ]

    def may_associate(self, source_item: IntArray, item: IntArray) -> BoolArray:
        """Return whether enough customers share two products that a reason may link them: (m,) bool."""
        return self._count_shared(source_item, item) >= self._min_customers

    def _count_shared(self, source_item: IntArray, item: IntArray) -> IntArray:
        """Return how many customers bought both products, 0 where there is no source item: (m,)."""
        shared = np.zeros(len(item), np.int64)
        is_pair = source_item >= 0
        if self._shared_customers is not None and is_pair.any():
            shared[is_pair] = np.asarray(self._shared_customers[source_item[is_pair], item[is_pair]]).ravel()
        return shared

    def _build_sentence(self, source: str, title: str | None, item: int, event_type: int, shared: int) -> str:
        action = _EVENT_TYPE_PHRASES[schema.EVENT_TYPES[event_type]] if event_type >= 0 else "like"
        if source == "repurchase":
            return "you bought this before"
        if source == "sequence":
            return f"fits what you {action} lately" if event_type >= 0 else "fits your past activity"
        if source == "co_purchase" and title is not None and shared >= self._min_customers:
            verb = "bought" if self._has_purchases else "chosen"
            return f"{'often ' if shared >= _MIN_SHARED_BUYERS else ''}{verb} together with {title}"
        if source == "content" and title is not None:
            return f"because you {action} {title}"
        if self._is_popular[item]:
            return "popular this week" if self._is_one_week else "popular these days"
        is_shared = self._total_users[item] >= self._min_customers
        return "chosen by other customers" if is_shared else "from our range"


def co_purchase_counts(
    interactions: Interactions, pairs: sparse.csr_matrix, counted: BoolArray | None = None
) -> sparse.csr_matrix:
    """Count the customers who bought both products of each pair: (n, n) int32, no entry where the count is 0.

    Args:
        interactions: events.
        pairs: (n, n), an entry for each pair to count.
        counted: (e,) bool, events that count; None = purchases.
    """
    if counted is None:
        counted = interactions.event_type == PURCHASE_CODE
    shape = (interactions.n_items, interactions.n_users)
    ones = np.ones(int(counted.sum()), np.int32)
    item_users = sparse.csr_matrix((ones, (interactions.item[counted], interactions.user[counted])), shape=shape)
    item_users.data[:] = 1
    pair_mask, user_items = pairs.astype(np.bool_), item_users.T.tocsr()
    blocks = [
        (item_users[start : start + _BLOCK_ROWS] @ user_items).multiply(pair_mask[start : start + _BLOCK_ROWS])
        for start in range(0, interactions.n_items, _BLOCK_ROWS)
    ]
    return sparse.vstack(blocks, format="csr", dtype=np.int32) if blocks else pairs.astype(np.int32)
