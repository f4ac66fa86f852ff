"""Fitting the ranker as if the newest parts of the log were tomorrow: nothing it learns from has seen them.

In: catalogue, events, product vectors, a way to train the user encoder. Out: `BoostedTreesRanker` or a `LinearRanker`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.holdout import HoldoutCases, cutoff_for_fraction, time_split
from recsys.data.interactions import Interactions
from recsys.data.schema import DAY
from recsys.encoder.model import Model
from recsys.errors import UsageError
from recsys.recommend.candidates import registry as sources
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.ranking import boosted_trees as trees
from recsys.recommend.ranking import features
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker, equal_weights, fit_conditional_logit, sample_negatives
from recsys.recommend.ranking.statistics import build_product_statistics
from recsys.recommend.retrieval import retrieve_candidates
from recsys.recommend.rules import rule_set as rules
from recsys.types import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)
_BLOCK = 512


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
    """Hold back the newest `ranker.window_fraction` of the events and fit the ranker on what was bought then.

    The share is cut into windows. For each, all sources are made from what was before it; the user encoder, which is
    dear, is trained once, on what was before the first.

    Args:
        catalogue: n products.
        interactions: all events that may be learned from.
        content: (n, d) vectors of an encoder that did not learn from the windows either.
        train_users: trains a user encoder on some events.
        ranker: size and number of windows, size of the sample, trees.
        recommend: the sources.
        rules: applied as they will be.
        seed: draws users and candidates.

    Returns:
        The ranker; equal weights, said aloud, where the log has no earlier and later or too few purchases.
    """
    windows = _temporal_windows(interactions, ranker, seed=seed)
    if not windows:
        return equal_weights(recommend.sources)
    model = train_users(windows[0][0])
    rehearsals = [
        (cases, sources.SourceContext(catalogue, before, model, content, recommend, cases.now))
        for before, cases in windows
    ]
    return fit_ranker_on_holdout(rehearsals, rule_settings=rules, ranker=ranker, seed=seed)


def _temporal_windows(
    interactions: Interactions, ranker: RankerSettings, *, seed: int
) -> list[tuple[Interactions, HoldoutCases]]:
    """What was before each window, and what was bought in it; the earliest first, none where there is nothing."""
    out: list[tuple[Interactions, HoldoutCases]] = []
    try:
        first = cutoff_for_fraction(interactions, ranker.window_fraction)
    except UsageError as error:
        log.warning("the ranker is not fitted, the sources count the same: %s", error)
        return out
    cuts, days = {first}, first % DAY == 0
    late = interactions.split(first)[1]
    for part in range(1, ranker.windows):
        try:
            cut = cutoff_for_fraction(late, 1 - part / ranker.windows)
        except UsageError:
            break  # the newest events share one moment: they are one window
        # The rest of a day is another thing to guess than the day to come: where there are days, a window begins one.
        if cut % DAY == 0 or not days:
            cuts.add(cut)
    bounds = [*sorted(cuts), int(interactions.time.max()) + 1]
    each = -(-ranker.max_users // (len(bounds) - 1))
    for begin, end in zip(bounds, bounds[1:], strict=False):
        try:
            out.append(time_split(interactions.split(end)[0], begin, max_users=each, seed=seed))
        except UsageError as error:
            log.warning("the ranker goes without one of its windows: %s", error)
    return out


def fit_ranker_on_holdout(
    rehearsals: Sequence[tuple[HoldoutCases, sources.SourceContext]],
    *,
    rule_settings: RuleSettings,
    ranker: RankerSettings,
    seed: int,
) -> LinearRanker | BoostedTreesRanker:
    """Fit the ranker on cases; the knowledge beside them has seen nothing of their targets.

    Falls back to fitted weights, and says so, where too few users bought one of their candidates for trees.
    """
    names = rehearsals[0][1].recommend.sources
    parts, start = [], 0
    for number, (cases, held) in enumerate(rehearsals):
        x, user, bought = build_examples(
            cases, held, rule_settings=rule_settings, ranker=ranker, g=np.random.default_rng((seed, 5, number))
        )
        parts.append((x, user + start, bought))
        start += len(cases)
    x, user, bought = (np.concatenate([part[at] for part in parts]) for at in range(3))
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
    """The ranker of examples: weights, or trees where `ranker.kind` and the users allow it.

    Args:
        x: (m, f) features in the order of `features.names(sources)`.
        user: (m,) user of each row, ascending; every user has a hit.
        bought: (m,) was it bought afterwards.
        sources: their names in order.
        ranker: kind, trees, how many users they need.
        seed: parts the users into quarters.
    """
    names = list(sources)
    blend = fit_conditional_logit(x, user, bought, sources=names)
    people = np.unique(user)
    if ranker.kind == "weights" or not blend.n_users:
        return blend
    if len(people) < ranker.least_users and ranker.kind == "auto":
        log.warning(
            "ranker: %d users bought one of their candidates, trees need %d (ranker.least_users); "
            "weights are fitted instead",
            len(people),
            ranker.least_users,
        )
        return blend

    def weigh(rows: BoolArray) -> LinearRanker:
        # There are enough users for weights; that fewer are left without a quarter is no reason for equal ones.
        return fit_conditional_logit(x[rows], user[rows], bought[rows], sources=names, least_cases=1)

    found = trees.fit_lambdamart(
        x,
        user,
        bought,
        blend=blend,
        weigh=None if ranker.kind == "trees" else weigh,
        rounds=ranker.trees,
        learning_rate=ranker.learning_rate,
        seed=seed,
    )
    return found or blend


def build_examples(
    cases: HoldoutCases,
    held: sources.SourceContext,
    *,
    rule_settings: RuleSettings,
    ranker: RankerSettings,
    g: np.random.Generator,
) -> tuple[FloatArray, IntArray, BoolArray]:
    """Features, users and outcomes of the candidates of every case that bought one of its candidates.

    Users without a history are left out (see `rank.scored`). Of the candidates that were not bought,
    `ranker.negatives` a user are drawn.
    """
    names = held.recommend.sources
    made = sources.create_sources(names, held)
    struck = rules.training_filters(rule_settings, held.interactions, sources=names, sellable=held.catalogue.sellable)
    described = features.FeatureExtractor(made, build_product_statistics(held))
    n = len(held.catalogue)
    rows = [np.zeros((0, len(features.feature_names(names))), np.float32)]
    owners, hits = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    known = np.flatnonzero(cases.histories.mask.any(axis=1))
    for start in range(0, len(known), _BLOCK):
        people = known[start : start + _BLOCK]
        some = cases.take(people)
        users = UserBatch(some.histories, held.now)
        pairs = retrieve_candidates(made, users, ranker.candidates, struck)
        wanted = np.concatenate([at * n + targets for at, targets in enumerate(some.targets)])
        bought = np.isin(pairs.user * n + pairs.item, wanted)
        # users none of whose candidates was bought say nothing about the order of candidates
        useful = np.isin(pairs.user, np.unique(pairs.user[bought]))
        kept, bought = pairs.take(useful), bought[useful]
        x = described.transform(kept, users)  # of all candidates: places and shares are counted among them
        taken = sample_negatives(kept.user, bought, ranker.negatives, g)
        rows.append(x[taken])
        owners.append(people[kept.user[taken]])
        hits.append(bought[taken])
    return np.concatenate(rows), np.concatenate(owners), np.concatenate(hits)
