"""Fit the ranker on holdout windows: the newest events are the target, and only earlier events are used as input.

In: catalogue, events, product vectors, a function that trains the user encoder. Out: `BoostedTreesRanker` or
`LinearRanker`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.holdout import HoldoutCases, cutoff_for_fraction, time_split
from recsys.data.interactions import Interactions
from recsys.data.schema import DAY
from recsys.encoder.model import Model
from recsys.errors import UsageError
from recsys.recommend.candidates.registry import SourceContext, create_sources
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker, fit_lambdamart
from recsys.recommend.ranking.features import FeatureExtractor, feature_names
from recsys.recommend.ranking.linear import LinearRanker, equal_weights, fit_conditional_logit, sample_negatives
from recsys.recommend.ranking.statistics import build_product_statistics
from recsys.recommend.retrieval import retrieve_candidates
from recsys.recommend.rules.rule_set import build_training_filters
from recsys.types import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)
_USER_BATCH_SIZE = 512
"""Users whose candidates are retrieved at once; bounds memory."""


def fit_ranker(
    catalogue: Catalogue,
    interactions: Interactions,
    content: FloatArray,
    train_users: Callable[[Interactions], Model],
    *,
    ranker: RankerSettings,
    recommend: RecommendSettings,
    rules: RuleSettings,
    seed: int,
) -> LinearRanker | BoostedTreesRanker:
    """Hold out the newest `ranker.window_fraction` of the events and fit the ranker on the purchases in them.

    The held-out events are split into windows. For each window, all sources are built from the events before it; the
    user encoder, which is expensive, is trained once, on the events before the first window.

    Args:
        catalogue: n products.
        interactions: all training events.
        content: (n, d) vectors of an encoder that was not trained on the windows either.
        train_users: trains a user encoder on the given events.
        ranker: size and number of windows, size of the sample, trees.
        recommend: settings of the sources.
        rules: settings of the rules that apply to recommendations.
        seed: seed of the samples of users and candidates.

    Returns:
        The ranker; `equal_weights` and a warning if the events have no earlier and later part or too few purchases.
    """
    windows = _temporal_windows(interactions, ranker, seed=seed)
    if not windows:
        return equal_weights(recommend.sources)
    model = train_users(windows[0][0])
    if not rules.available_only:
        catalogue = replace(catalogue, sellable=np.ones(len(catalogue), np.bool_))
    window_contexts = [
        (cases, SourceContext(catalogue, before, model, content, recommend, cases.now)) for before, cases in windows
    ]
    return fit_ranker_on_holdout(window_contexts, rule_settings=rules, ranker=ranker, seed=seed)


def _temporal_windows(
    interactions: Interactions, ranker: RankerSettings, *, seed: int
) -> list[tuple[Interactions, HoldoutCases]]:
    """Return the events before each window and the purchases in it, the earliest first; [] without any window."""
    windows: list[tuple[Interactions, HoldoutCases]] = []
    try:
        first_cutoff = cutoff_for_fraction(interactions, ranker.window_fraction)
    except UsageError as error:
        log.warning("ranker not fitted (%s); using equal source weights", error)
        return windows
    cutoffs, has_days = {first_cutoff}, first_cutoff % DAY == 0
    held_out = interactions.split(first_cutoff)[1]
    for index in range(1, ranker.windows):
        try:
            cutoff = cutoff_for_fraction(held_out, 1 - index / ranker.windows)
        except UsageError:
            break  # the newest events share one timestamp: they are one window
        # Predicting the rest of a day is another task than predicting the next day: with daily data, a window starts
        # at the start of a day.
        if cutoff % DAY == 0 or not has_days:
            cutoffs.add(cutoff)
    bounds = [*sorted(cutoffs), interactions.last_time + 1]
    max_users = -(-ranker.max_users // (len(bounds) - 1))
    for begin, end in zip(bounds, bounds[1:], strict=False):
        try:
            windows.append(time_split(interactions.split(end)[0], begin, max_users=max_users, seed=seed))
        except UsageError as error:
            log.warning("ranker: one of its windows was skipped: %s", error)
    return windows


def fit_ranker_on_holdout(
    windows: Sequence[tuple[HoldoutCases, SourceContext]],
    *,
    rule_settings: RuleSettings,
    ranker: RankerSettings,
    seed: int,
) -> LinearRanker | BoostedTreesRanker:
    """Fit the ranker on holdout cases; the context of each must not contain the targets of its cases.

    Falls back to linear weights, with a warning, if too few users bought one of their candidates for trees.
    """
    names = windows[0][1].recommend.sources
    parts, user_offset = [], 0
    for index, (cases, context) in enumerate(windows):
        x, user, bought = build_examples(
            cases, context, rule_settings=rule_settings, ranker=ranker, rng=np.random.default_rng((seed, 5, index))
        )
        parts.append((x, user + user_offset, bought))
        user_offset += len(cases)
    x, user, bought = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return fit_from_examples(x, user, bought, sources=names, ranker=ranker, seed=seed)


def fit_from_examples(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    *,
    sources: Sequence[str],
    ranker: RankerSettings,
    seed: int,
) -> LinearRanker | BoostedTreesRanker:
    """Fit a ranker on examples: linear weights, plus trees if `ranker.kind` and the number of users allow it.

    Args:
        x: (m, f) features in the order of `feature_names(sources)`.
        user: (m,) user of each row, ascending; every user has a hit.
        bought: (m,) bool, bought afterwards.
        sources: names of the candidate sources, in order.
        ranker: kind, trees, number of users they need.
        seed: seed of the cross-validation folds and of the boosting.
    """
    names = list(sources)
    linear = fit_conditional_logit(x, user, bought, sources=names)
    users = np.unique(user)
    if ranker.kind == "weights" or not linear.n_users:
        return linear
    if len(users) < ranker.least_users and ranker.kind == "auto":
        log.warning(
            "ranker: %d users bought one of their candidates, trees need %d (ranker.least_users); using linear weights",
            len(users),
            ranker.least_users,
        )
        return linear

    def fit_linear(rows: BoolArray) -> LinearRanker:
        # All users together are enough for weights; a fold may have fewer and must not fall back to equal ones.
        return fit_conditional_logit(x[rows], user[rows], bought[rows], sources=names, min_users=1)

    boosted = fit_lambdamart(
        x,
        user,
        bought,
        linear=linear,
        fit_linear=None if ranker.kind == "trees" else fit_linear,
        rounds=ranker.trees,
        learning_rate=ranker.learning_rate,
        seed=seed,
    )
    return boosted or linear


def build_examples(
    cases: HoldoutCases,
    context: SourceContext,
    *,
    rule_settings: RuleSettings,
    ranker: RankerSettings,
    rng: np.random.Generator,
) -> tuple[FloatArray, IntArray, BoolArray]:
    """Build training examples from the candidates of every case that bought one of its candidates.

    Users without a history are left out (see `linear.rank_scores`). Of the candidates that were not bought,
    `ranker.negatives` per user are sampled.

    Returns:
        x (m, f) float32 features; user (m,) position of the case; bought (m,) bool.
    """
    names = context.recommend.sources
    sources = create_sources(names, context)
    filters = build_training_filters(
        rule_settings, context.interactions, sources=names, sellable=context.catalogue.sellable
    )
    extractor = FeatureExtractor(sources, build_product_statistics(context))
    n = len(context.catalogue)
    feature_parts = [np.zeros((0, len(feature_names(names))), np.float32)]
    user_parts, bought_parts = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    with_events = np.flatnonzero(cases.histories.mask.any(axis=1))
    for start in range(0, len(with_events), _USER_BATCH_SIZE):
        positions = with_events[start : start + _USER_BATCH_SIZE]
        batch = cases.take(positions)
        users = UserBatch(batch.histories, context.now)
        pairs = retrieve_candidates(sources, users, ranker.candidates, filters)
        target_keys = np.concatenate([index * n + targets for index, targets in enumerate(batch.targets)])
        bought = np.isin(pairs.user * n + pairs.item, target_keys)
        # Users without a bought candidate carry no information about the order of candidates.
        has_hit = np.isin(pairs.user, np.unique(pairs.user[bought]))
        hit_pairs, bought = pairs.filter(has_hit), bought[has_hit]
        x = extractor.transform(hit_pairs, users)  # before sampling: ranks and shares count all candidates
        sampled = sample_negatives(hit_pairs.user, bought, ranker.negatives, rng)
        feature_parts.append(x[sampled])
        user_parts.append(positions[hit_pairs.user[sampled]])
        bought_parts.append(bought[sampled])
    return np.concatenate(feature_parts), np.concatenate(user_parts), np.concatenate(bought_parts)
