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

_EVENT_TYPE_PHRASES = {
    "purchase": "bought",
    "add_to_cart": "put in your cart",
    "view": "looked at",
    "wishlist": "wished for",
    "rating": "rated",
}
_MIN_SHARED_BUYERS = 3
"""Customers who bought both products, from which on the pair is 'often bought together'."""
_MIN_RECENT_USERS = 2
"""Customers in the last days, from which on a product is 'popular'."""
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
        """
        self._catalogue, self._sources, self._is_one_week = catalogue, tuple(sources), popular_days == 7
        self._shared_buyers = (
            co_purchase_counts(interactions, co_purchase_pairs) if co_purchase_pairs is not None else None
        )
        no_return = interactions.event_type != RETURN_CODE
        recent = no_return & (interactions.time >= now - popular_days * DAY)
        item_user_keys = np.unique(interactions.item[recent] * interactions.n_users + interactions.user[recent])
        self._recent_users = np.bincount(item_user_keys // max(1, interactions.n_users), minlength=interactions.n_items)
        self._total_events = np.bincount(interactions.item[no_return], minlength=interactions.n_items)

    def explain(self, recommendations: Recommendations) -> list[str]:
        """Return one sentence per recommendation: (m,)."""
        has_source_item = recommendations.source_item >= 0
        titles = np.full(len(recommendations.item), None, object)
        titles[has_source_item] = self._catalogue.titles(recommendations.source_item[has_source_item])
        names = np.array([*self._sources, "popular"], object)[recommendations.source]
        shared_buyers = np.zeros(len(recommendations.item), np.int64)
        is_pair = has_source_item & (names == "co_purchase")
        if self._shared_buyers is not None and is_pair.any():
            shared_buyers[is_pair] = np.asarray(
                self._shared_buyers[recommendations.source_item[is_pair], recommendations.item[is_pair]]
            ).ravel()
        return [
            self._build_sentence(*row)
            for row in zip(
                names,
                titles,
                recommendations.item.tolist(),
                recommendations.event_type.tolist(),
                shared_buyers.tolist(),
                strict=True,
            )
        ]

    def _build_sentence(self, source: str, title: str | None, item: int, event_type: int, shared_buyers: int) -> str:
        action = _EVENT_TYPE_PHRASES[schema.EVENT_TYPES[event_type]] if event_type >= 0 else "like"
        if source == "repurchase":
            return "you bought this before"
        if source == "sequence":
            return f"fits what you {action} lately"
        if source == "co_purchase" and title is not None:
            verb = "often bought" if shared_buyers >= _MIN_SHARED_BUYERS else "bought" if shared_buyers else "chosen"
            return f"{verb} together with {title}"
        if source == "content" and title is not None:
            return f"because you {action} {title}"
        if self._recent_users[item] >= _MIN_RECENT_USERS:
            return "popular this week" if self._is_one_week else "popular these days"
        return "chosen by other customers" if self._total_events[item] else "from our range"


def co_purchase_counts(interactions: Interactions, pairs: sparse.csr_matrix) -> sparse.csr_matrix:
    """Count the customers who bought both products of each pair: (n, n) int32, no entry where the count is 0."""
    is_purchase = interactions.event_type == PURCHASE_CODE
    shape = (interactions.n_items, interactions.n_users)
    ones = np.ones(int(is_purchase.sum()), np.int32)
    item_users = sparse.csr_matrix(
        (ones, (interactions.item[is_purchase], interactions.user[is_purchase])), shape=shape
    )
    item_users.data[:] = 1
    pair_mask, user_items = pairs.astype(np.bool_), item_users.T.tocsr()
    blocks = [
        (item_users[start : start + _BLOCK_ROWS] @ user_items).multiply(pair_mask[start : start + _BLOCK_ROWS])
        for start in range(0, interactions.n_items, _BLOCK_ROWS)
    ]
    return sparse.vstack(blocks, format="csr", dtype=np.int32) if blocks else pairs.astype(np.int32)
