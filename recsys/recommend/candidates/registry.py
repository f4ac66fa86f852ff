"""Which candidate sources there are, and how each is made from what may be learned from.

In: catalogue, interactions, encoder and vectors, settings. Out: the named sources, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.config import RecommendSettings
from recsys.data import tfidf as words
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.data.product_columns import new_products
from recsys.encoder.model import Model
from recsys.errors import ConfigError, suggestion
from recsys.recommend.candidates.cluster import Cluster
from recsys.recommend.candidates.co_purchase import CoPurchase
from recsys.recommend.candidates.content import Content
from recsys.recommend.candidates.ease import Ease
from recsys.recommend.candidates.fresh import Fresh
from recsys.recommend.candidates.popular import Popular
from recsys.recommend.candidates.repurchase import Repurchase
from recsys.recommend.candidates.sequence import Sequence as SequenceSource
from recsys.recommend.candidates.source import CandidateSource
from recsys.recommend.candidates.transitions import Transitions
from recsys.types import FloatArray
from recsys.vectors.clustering.kmeans import groups

_SAMPLE, _LAST = 512, 50
"""Users the recall of an approximate search is measured on, and their events looked at."""


@dataclass(frozen=True)
class Knowledge:
    """What sources are made from.

    Attributes:
        catalogue: n products.
        interactions: events that may be learned from.
        model: encoder with a user encoder; only `sequence` asks for it.
        content: (n, d) unit product vectors.
        recommend: settings.
        now: UTC seconds the lists are for.
    """

    catalogue: Catalogue
    interactions: Interactions
    model: Model
    content: FloatArray
    recommend: RecommendSettings
    now: int

    def __post_init__(self) -> None:
        # vectors mapped from a file are a slow kind of array; this is a plain view of the same
        object.__setattr__(self, "content", np.asarray(self.content))


@dataclass(frozen=True)
class _Bound:
    """The encoder with the ids of the products it ranks."""

    model: Model
    ids: IdMap

    def item_vectors(self, content: FloatArray) -> FloatArray:
        return self.model.item_vectors(content, self.ids)

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int) -> FloatArray:
        return self.model.user_vectors(histories, items, now=now)


def popular(held: Knowledge) -> Popular:
    """The source that fills every list."""
    days = held.recommend.popular_days
    return Popular(held.interactions, now=held.now, days=days, sellable=held.catalogue.sellable)


def _sequence(held: Knowledge) -> CandidateSource:
    bound = _Bound(held.model, held.catalogue.ids)
    active = np.unique(held.interactions.user)
    some = active[np.linspace(0, len(active) - 1, min(len(active), _SAMPLE)).astype(np.int64)]
    return SequenceSource(
        bound,
        held.content,
        sellable=held.catalogue.sellable,
        recall=held.recommend.recall if held.recommend.approximate else None,
        sample=(held.interactions.histories(some, _LAST), held.now),
        k=held.recommend.candidates,
    )


def _content(held: Knowledge) -> CandidateSource:
    touched = np.unique(held.interactions.item)
    recall = held.recommend.recall if held.recommend.approximate else None
    sellable = held.catalogue.sellable
    return Content(held.content, words.of(held.catalogue), touched=touched, sellable=sellable, recall=recall)


def _cluster(held: Knowledge) -> CandidateSource:
    known = np.unique(held.interactions.item)  # a product to come must not move the groups of today's
    found = groups(held.content, seed=0, among=known)
    return Cluster(found, popular(held).score, sellable=held.catalogue.sellable)


def _fresh(held: Knowledge) -> CandidateSource:
    new = new_products(held.catalogue, held.interactions, now=held.now, days=held.recommend.fresh_days)
    return Fresh(held.content, new, sellable=held.catalogue.sellable)


MAKERS: dict[str, Callable[[Knowledge], CandidateSource]] = {
    "sequence": _sequence,
    "repurchase": lambda _: Repurchase(),
    "co_purchase": lambda held: CoPurchase(held.interactions),
    "transitions": lambda held: Transitions(held.interactions),
    "ease": lambda held: Ease(held.interactions, products=held.recommend.ease_products),
    "popular": popular,
    "content": _content,
    "cluster": _cluster,
    "fresh": _fresh,
}


def made(names: Sequence[str], held: Knowledge) -> list[CandidateSource]:
    """The named sources in the order of their names.

    Raises:
        ConfigError: no source has that name, or none is named.
    """
    for name in names:
        if name not in MAKERS:
            known = ", ".join(MAKERS)
            raise ConfigError(f"recommend.sources: unknown source '{name}'{suggestion(name, MAKERS)} (known: {known})")
    if not names:
        raise ConfigError(f"recommend.sources is empty; name at least one of {', '.join(MAKERS)}")
    return [MAKERS[name](held) for name in names]
