"""Why a product stands in a list, in words that are true: bought before, or by the source that tells most.

In: lists, titles, who bought what. Out: one sentence a place.
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

_DONE = {
    "purchase": "bought",
    "add_to_cart": "put in your cart",
    "view": "looked at",
    "wishlist": "wished for",
    "rating": "rated",
}
_OFTEN = 3
"""Customers who bought both, from which on products are bought together often."""
_MANY = 2
"""Customers lately, from which on a product is popular."""
_BLOCK = 1024
"""Products whose pairs are counted at a time."""


class ReasonGenerator:
    """Knows what is needed to say only what is so."""

    def __init__(
        self,
        catalogue: Catalogue,
        interactions: Interactions,
        *,
        sources: Sequence[str],
        now: int,
        days: float,
        pairs: sparse.csr_matrix | None = None,
    ) -> None:
        """Count who bought what, once; a sentence then costs the same in a small shop and in a large one.

        Args:
            catalogue: n titles.
            interactions: what the sources learned from.
            sources: names of the sources in order.
            now: the moment the lists are for.
            days: that count for 'popular'.
            pairs: (n, n), row i holds the products that may be proposed together with product i; None = none are.
        """
        self._catalogue, self._sources, self._week = catalogue, tuple(sources), days == 7
        self._together = co_purchase_counts(interactions, pairs) if pairs is not None else None
        kept = interactions.event_type != RETURN_CODE
        lately = kept & (interactions.time >= now - days * DAY)
        people = np.unique(interactions.item[lately] * interactions.n_users + interactions.user[lately])
        self._lately = np.bincount(people // max(1, interactions.n_users), minlength=interactions.n_items)
        self._ever = np.bincount(interactions.item[kept], minlength=interactions.n_items)

    def explain(self, lists: Recommendations) -> list[str]:
        """One sentence a place: (m,)."""
        stems = lists.because >= 0
        titles = np.full(len(lists.item), None, object)
        titles[stems] = self._catalogue.titles(lists.because[stems])
        names = np.array([*self._sources, "popular"], object)[lists.source]
        shared = np.zeros(len(lists.item), np.int64)
        pairs = stems & (names == "co_purchase")
        if self._together is not None and pairs.any():
            shared[pairs] = np.asarray(self._together[lists.because[pairs], lists.item[pairs]]).ravel()
        return [
            self._sentence(*one)
            for one in zip(names, titles, lists.item.tolist(), lists.kind.tolist(), shared.tolist(), strict=True)
        ]

    def _sentence(self, source: str, title: str | None, item: int, kind: int, shared: int) -> str:
        done = _DONE[schema.EVENT_TYPES[kind]] if kind >= 0 else "like"
        if source == "repurchase":
            return "you bought this before"
        if source == "sequence":
            return f"fits what you {done} lately"
        if source == "co_purchase" and title is not None:
            how = "often bought" if shared >= _OFTEN else "bought" if shared else "chosen"
            return f"{how} together with {title}"
        if source == "content" and title is not None:
            return f"because you {done} {title}"
        if self._lately[item] >= _MANY:
            return "popular this week" if self._week else "popular these days"
        return "chosen by other customers" if self._ever[item] else "from our range"


def co_purchase_counts(interactions: Interactions, pairs: sparse.csr_matrix) -> sparse.csr_matrix:
    """How many customers bought both products of each pair in `pairs`: (n, n) int32, nothing where nobody did."""
    bought = interactions.event_type == PURCHASE_CODE
    shape = (interactions.n_items, interactions.n_users)
    ones = np.ones(int(bought.sum()), np.int32)
    buyers = sparse.csr_matrix((ones, (interactions.item[bought], interactions.user[bought])), shape=shape)
    buyers.data[:] = 1
    asked, baskets = pairs.astype(np.bool_), buyers.T.tocsr()
    blocks = [
        (buyers[start : start + _BLOCK] @ baskets).multiply(asked[start : start + _BLOCK])
        for start in range(0, interactions.n_items, _BLOCK)
    ]
    return sparse.vstack(blocks, format="csr", dtype=np.int32) if blocks else pairs.astype(np.int32)
