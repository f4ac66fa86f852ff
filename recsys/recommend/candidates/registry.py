"""Registry of the candidate sources: map each source name to a factory that builds it from the training data.

In: catalogue, interactions, encoder and vectors, settings. Out: the named sources, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.config import RecommendSettings
from recsys.data.catalogue import Catalogue
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.data.product_columns import new_product_mask
from recsys.data.tfidf import product_tfidf
from recsys.encoder.model import Model
from recsys.errors import ConfigError, suggestion
from recsys.recommend.candidates.cluster import ClusterSource
from recsys.recommend.candidates.co_purchase import CoPurchaseSource
from recsys.recommend.candidates.content import ContentSource
from recsys.recommend.candidates.ease import EaseSource
from recsys.recommend.candidates.fresh import NewProductSource
from recsys.recommend.candidates.popular import PopularSource
from recsys.recommend.candidates.repurchase import RepurchaseSource
from recsys.recommend.candidates.sequence import SequenceSource, UntrainedSequenceSource
from recsys.recommend.candidates.source import CandidateSource
from recsys.recommend.candidates.transitions import TransitionSource
from recsys.types import FloatArray
from recsys.vectors.clustering.kmeans import kmeans_fit_subset

_RECALL_SAMPLE_SIZE, _RECALL_SAMPLE_EVENTS = 512, 50
"""Users on which the recall of an approximate search is measured, and the last events of each that are used."""


@dataclass(frozen=True)
class SourceContext:
    """Inputs of the source factories.

    Attributes:
        catalogue: n products.
        interactions: training events.
        model: encoder with a user encoder; only `sequence` uses it.
        content: (n, d) unit product vectors.
        recommend: settings.
        now: UTC seconds at which recommendations are made.
    """

    catalogue: Catalogue
    interactions: Interactions
    model: Model
    content: FloatArray
    recommend: RecommendSettings
    now: int

    def __post_init__(self) -> None:
        # Indexing a memory-mapped array is slow; this is a plain view of the same memory.
        object.__setattr__(self, "content", np.asarray(self.content))


@dataclass(frozen=True)
class _BoundSequenceModel:
    """The encoder together with the ids of the products it ranks."""

    model: Model
    ids: IdMap

    def item_vectors(self, content: FloatArray) -> FloatArray:
        return self.model.item_vectors(content, self.ids)

    def user_vectors(self, histories: Histories, items: FloatArray, *, now: int) -> FloatArray:
        return self.model.user_vectors(histories, items, now=now)


def create_popular(context: SourceContext) -> PopularSource:
    """Create the `popular` source, which also backfills short lists."""
    days = context.recommend.popular_days
    return PopularSource(context.interactions, now=context.now, days=days, sellable=context.catalogue.sellable)


def _create_sequence(context: SourceContext) -> CandidateSource:
    if context.model.user_encoder is None:
        return UntrainedSequenceSource()
    bound_model = _BoundSequenceModel(context.model, context.catalogue.ids)
    active = np.unique(context.interactions.user)
    sample = active[np.linspace(0, len(active) - 1, min(len(active), _RECALL_SAMPLE_SIZE)).astype(np.int64)]
    return SequenceSource(
        bound_model,
        context.content,
        sellable=context.catalogue.sellable,
        recall=context.recommend.recall if context.recommend.approximate else None,
        sample=(context.interactions.histories(sample, _RECALL_SAMPLE_EVENTS), context.now),
        k=context.recommend.candidates,
    )


def _create_content(context: SourceContext) -> CandidateSource:
    history_items = np.unique(context.interactions.item)
    recall = context.recommend.recall if context.recommend.approximate else None
    sellable = context.catalogue.sellable
    return ContentSource(
        context.content, product_tfidf(context.catalogue), history_items=history_items, sellable=sellable, recall=recall
    )


def _create_cluster(context: SourceContext) -> CandidateSource:
    items = np.unique(context.interactions.item)  # adding a product must not move the clusters of the others
    clusters = kmeans_fit_subset(context.content, seed=0, rows=items)
    return ClusterSource(clusters, create_popular(context).popularity, sellable=context.catalogue.sellable)


def _create_fresh(context: SourceContext) -> CandidateSource:
    days = context.recommend.fresh_days
    new_mask = new_product_mask(context.catalogue, context.interactions, now=context.now, days=days)
    return NewProductSource(context.content, new_mask, sellable=context.catalogue.sellable)


SOURCE_FACTORIES: dict[str, Callable[[SourceContext], CandidateSource]] = {
    "sequence": _create_sequence,
    "repurchase": lambda _: RepurchaseSource(),
    "co_purchase": lambda context: CoPurchaseSource(context.interactions),
    "transitions": lambda context: TransitionSource(context.interactions),
    "ease": lambda context: EaseSource(context.interactions, max_products=context.recommend.ease_products),
    "popular": create_popular,
    "content": _create_content,
    "cluster": _create_cluster,
    "fresh": _create_fresh,
}


def create_sources(names: Sequence[str], context: SourceContext) -> list[CandidateSource]:
    """Create the named sources, in the order of `names`.

    Raises:
        ConfigError: a name is unknown, or `names` is empty.
    """
    for name in names:
        if name not in SOURCE_FACTORIES:
            known_names = ", ".join(SOURCE_FACTORIES)
            raise ConfigError(
                f"recommend.sources: unknown source '{name}'{suggestion(name, SOURCE_FACTORIES)} (known: {known_names})"
            )
    if not names:
        raise ConfigError(f"recommend.sources is empty; name at least one of {', '.join(SOURCE_FACTORIES)}")
    return [SOURCE_FACTORIES[name](context) for name in names]
