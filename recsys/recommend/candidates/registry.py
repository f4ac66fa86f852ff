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
from recsys.data.product_columns import new_product_mask
from recsys.encoder.model import Model
from recsys.errors import ConfigError, suggestion
from recsys.recommend.candidates.cluster import ClusterSource
from recsys.recommend.candidates.co_purchase import CoPurchaseSource
from recsys.recommend.candidates.content import ContentSource
from recsys.recommend.candidates.ease import EaseSource
from recsys.recommend.candidates.fresh import NewProductSource
from recsys.recommend.candidates.popular import PopularSource
from recsys.recommend.candidates.repurchase import RepurchaseSource
from recsys.recommend.candidates.sequence import SequenceSource as SequenceSource
from recsys.recommend.candidates.source import CandidateSource
from recsys.recommend.candidates.transitions import TransitionSource
from recsys.types import FloatArray
from recsys.vectors.clustering.kmeans import kmeans_fit_subset

_SAMPLE, _LAST = 512, 50
"""Users the recall of an approximate search is measured on, and their events looked at."""


@dataclass(frozen=True)
class SourceContext:
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
class _BoundSequenceModel:
    """The encoder with the ids of the products it ranks."""

    model: Model
    ids: IdMap

    def item_vectors(self, content: FloatArray) -> FloatArray:
        return self.model.item_vectors(content, self.ids)

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int) -> FloatArray:
        return self.model.user_vectors(histories, items, now=now)


def create_popular(held: SourceContext) -> PopularSource:
    """The source that fills every list."""
    days = held.recommend.popular_days
    return PopularSource(held.interactions, now=held.now, days=days, sellable=held.catalogue.sellable)


def _sequence(held: SourceContext) -> CandidateSource:
    bound = _BoundSequenceModel(held.model, held.catalogue.ids)
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


def _content(held: SourceContext) -> CandidateSource:
    touched = np.unique(held.interactions.item)
    recall = held.recommend.recall if held.recommend.approximate else None
    sellable = held.catalogue.sellable
    return ContentSource(
        held.content, words.product_tfidf(held.catalogue), touched=touched, sellable=sellable, recall=recall
    )


def _cluster(held: SourceContext) -> CandidateSource:
    known = np.unique(held.interactions.item)  # a product to come must not move the groups of today's
    found = kmeans_fit_subset(held.content, seed=0, among=known)
    return ClusterSource(found, create_popular(held).popularity, sellable=held.catalogue.sellable)


def _fresh(held: SourceContext) -> CandidateSource:
    new = new_product_mask(held.catalogue, held.interactions, now=held.now, days=held.recommend.fresh_days)
    return NewProductSource(held.content, new, sellable=held.catalogue.sellable)


SOURCE_FACTORIES: dict[str, Callable[[SourceContext], CandidateSource]] = {
    "sequence": _sequence,
    "repurchase": lambda _: RepurchaseSource(),
    "co_purchase": lambda held: CoPurchaseSource(held.interactions),
    "transitions": lambda held: TransitionSource(held.interactions),
    "ease": lambda held: EaseSource(held.interactions, products=held.recommend.ease_products),
    "popular": create_popular,
    "content": _content,
    "cluster": _cluster,
    "fresh": _fresh,
}


def create_sources(names: Sequence[str], held: SourceContext) -> list[CandidateSource]:
    """The named sources in the order of their names.

    Raises:
        ConfigError: no source has that name, or none is named.
    """
    for name in names:
        if name not in SOURCE_FACTORIES:
            known = ", ".join(SOURCE_FACTORIES)
            raise ConfigError(
                f"recommend.sources: unknown source '{name}'{suggestion(name, SOURCE_FACTORIES)} (known: {known})"
            )
    if not names:
        raise ConfigError(f"recommend.sources is empty; name at least one of {', '.join(SOURCE_FACTORIES)}")
    return [SOURCE_FACTORIES[name](held) for name in names]
