"""What is compared on sequences: closed-form models, their plain sum, every source alone, and ours.

In: a `Log`. Out: systems, or the lists they make.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from blind import directions
from scipy import sparse
from sequential_data import Log, without_last

from recsys.config import Settings
from recsys.data.holdout import take_histories
from recsys.data.interactions import Histories, Interactions
from recsys.encoder.model import Model
from recsys.encoder.training.train import train_products, train_users
from recsys.evaluate import baselines
from recsys.evaluate.baselines import Scorer, System
from recsys.recommend.candidates import registry as sources
from recsys.recommend.candidates.ease import fit_ease as ease_weights
from recsys.recommend.candidates.registry import SourceContext
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.candidates.transitions import transition_shares
from recsys.recommend.ranking import checkpoint as rankers
from recsys.recommend.ranking.training import fit_ranker_on_holdout
from recsys.recommend.recommender import Recommender
from recsys.types import DoubleArray, FloatArray, IntArray

_FOREVER = 1e9
_WEIGHTS = 2000
"""Weights of EASE kept of each product: all of them fill 20 GB on 18,000 products."""


def plain(log: Log, *, ease_products: int) -> dict[str, System]:
    """Popularity, decayed item-item, EASE, transitions, and the sum of the three, each by its row's maximum."""
    train, n = log.train, log.train.n_items
    item = baselines.item_knn(train, shrinkage=5.0, decay=0.6)
    linear = _decayed(ease_weights(train, ridge=150.0, max_products=ease_products, n_neighbours=_WEIGHTS), n)
    steps = _decayed(transition_shares(train, max_steps=5, half_life_days=_FOREVER, n_neighbours=n), n)
    three = [(1.0, item), (0.5, linear), (0.5, steps)]
    scorers = {
        "popular": baselines.popularity(train),
        "item-item": item,
        "ease": linear,
        "transitions": steps,
        "plain blend": baselines.weighted_sum([(weight, baselines.normalize_scores(part)) for weight, part in three]),
    }
    return {name: baselines.to_ranked_lists(scorer, exclude_purchased=True) for name, scorer in scorers.items()}


def _decayed(near: sparse.csr_matrix, n: int) -> Scorer:
    """Sum of a product's neighbours over the history, .6 an item back."""

    def scores(histories: Histories) -> DoubleArray:
        return np.asarray((baselines.history_weights(histories, n, 0.6) @ near).todense(), np.float64)

    return scores


def ours(
    log: Log, settings: Settings, *, folder: Path, say: Callable[[str], None], singles: bool
) -> tuple[dict[str, IntArray], dict[str, object]]:
    """Train on everything but the last product, the ranker on the one before it; our lists, and those of each source.

    In fitting the ranker, encoder and sources know neither the last nor the second last product of anybody.
    """
    catalogue, training = log.catalogue, settings.training
    early, rehearsed = without_last(log.train)
    say(f"train products on {len(early):,} events")
    products = train_products(
        catalogue,
        early,
        encoder=settings.encoder,
        objectives=settings.objectives,
        training=training,
        folder=folder / "products",
        resume=True,
        progress=False,
    )
    content = products.encode(catalogue, np.arange(len(catalogue)))

    def users(events: Interactions, name: str, vectors: FloatArray = content) -> Model:
        say(f"train users on {len(events):,} events")
        return train_users(
            products,
            vectors,
            catalogue,
            events,
            objectives=settings.objectives,
            training=training,
            folder=folder / name,
            resume=True,
            progress=False,
        )

    held = SourceContext(catalogue, early, users(early, "rehearsal"), content, settings.recommend, rehearsed.now)
    say("fit the ranker")
    most = min(len(rehearsed), settings.ranker.max_users)
    drawn = np.sort(np.random.default_rng(training.seed).choice(len(rehearsed), most, replace=False))
    ranker = fit_ranker_on_holdout(
        [(rehearsed.take(drawn), held)], rule_settings=settings.rules, ranker=settings.ranker, seed=training.seed
    )
    say(f"ranker: {getattr(ranker, 'holdout_ndcg', 'weights')}")
    model = users(log.train, "users")
    say("recommend")
    recommender = Recommender.build(
        catalogue,
        log.train,
        model=model,
        content=content,
        ranker=ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        users=log.users,
        now=log.test.now,
    )
    out: dict[str, IntArray] = {}
    if singles:
        known = SourceContext(catalogue, log.train, model, content, settings.recommend, log.test.now)
        for source in recommender.sources.values():
            out[f"source {source.name}"] = alone(source, log)
        blind = directions(content.shape, training.seed)
        by_id = replace(known, model=users(log.train, "ids alone", blind), content=blind)
        by_content = replace(known, model=_without_ids(model))
        for name, part in (("ids", by_id), ("content", by_content)):
            (source,) = sources.create_sources(["sequence"], part)
            out[f"sequence, {name} alone"] = alone(source, log)
    out["recsys"] = recommender.recommend_rows(log.test.histories, 10)
    return out, {"model": model.version, "ranker": rankers.ranker_metrics(ranker)}


def _without_ids(model: Model) -> Model:
    """The same with no product having a residual of its own."""
    twin = deepcopy(model)
    with torch.no_grad():
        assert twin.user_encoder is not None
        twin.user_encoder.ranking.residual.weight.zero_()
    return twin


def alone(source: sources.CandidateSource, log: Log, *, k: int = 10) -> IntArray:
    """The best of one source that the user did not have."""
    out = np.full((len(log.test), k), -1, np.int64)
    longest = log.test.histories.items.shape[1]
    for start in range(0, len(out), 512):
        some = take_histories(log.test.histories, np.arange(start, min(start + 512, len(out))))
        found = source.retrieve(UserBatch(some, log.test.now), k + longest)
        seen = np.unique(np.nonzero(some.mask)[0] * log.train.n_items + some.items[some.mask])
        new = ~np.isin(found.user * log.train.n_items + found.item, seen)
        user, item, score = found.user[new], found.item[new], found.score[new]
        order = np.lexsort((item, -score, user))
        place = np.arange(len(order)) - np.searchsorted(user[order], user[order])
        first = place < k
        out[start + user[order][first], place[first]] = item[order][first]
    return out
