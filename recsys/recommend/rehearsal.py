"""Fitting the blend as if the newest part of the log were tomorrow: nothing it learns from has seen that part.

In: catalogue, events, product vectors, a way to train the user encoder. Out: a `Blend`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.errors import UsageError
from recsys.recommend import features, rules, sources
from recsys.recommend.cases import Cases, newest, time_split
from recsys.recommend.proposals import UserBatch
from recsys.recommend.rank import Blend, equal, fit
from recsys.recommend.recommender import proposed

log = logging.getLogger(__name__)
_BLOCK = 512


def rehearse(
    catalogue: Catalogue,
    interactions: Interactions,
    content: npt.NDArray[np.float32],
    train_users: Callable[[Interactions], Model],
    *,
    ranker: RankerSettings,
    recommend: RecommendSettings,
    rules: RuleSettings,
    seed: int,
) -> Blend:
    """Hold back the newest `ranker.window_fraction` of the events and fit the blend on what was bought then.

    Args:
        catalogue: n products.
        interactions: all events that may be learned from.
        content: (n, d) vectors of an encoder that did not learn from the window either.
        train_users: trains a user encoder on some events.
        ranker: size of window and sample.
        recommend: the sources.
        rules: applied as they will be.
        seed: draws the users.

    Returns:
        The blend; equal weights, said aloud, where the log has no earlier and later or too few purchases.
    """
    try:
        cut = newest(interactions, ranker.window_fraction)
        before, cases = time_split(interactions, cut, max_users=ranker.max_users, seed=seed)
    except UsageError as error:
        log.warning("the blend is not fitted, the sources count the same: %s", error)
        return equal(recommend.sources)
    model = train_users(before)
    held = sources.Knowledge(catalogue, before, model, content, recommend, cut)
    return fit_on(cases, held, rule_settings=rules, candidates=ranker.candidates)


def fit_on(cases: Cases, held: sources.Knowledge, *, rule_settings: RuleSettings, candidates: int) -> Blend:
    """Fit the blend on cases; `held` knows nothing of their targets."""
    names = held.recommend.sources
    made = sources.made(names, held)
    struck = rules.made(rule_settings, held.interactions, sources=names, sellable=held.catalogue.sellable)
    popularity = features.Popularity(held.interactions, now=held.now, days=held.recommend.popular_days)
    n = len(held.catalogue)
    rows, owners, hits = [], [], []
    for start in range(0, len(cases), _BLOCK):
        some = cases.take(np.arange(start, min(start + _BLOCK, len(cases))))
        users = UserBatch(some.histories, held.now)
        pairs = proposed(made, users, candidates, struck)
        wanted = np.concatenate([at * n + targets for at, targets in enumerate(some.targets)])
        bought = np.isin(pairs.user * n + pairs.item, wanted)
        # users none of whose candidates was bought say nothing about the order of candidates
        useful = np.isin(pairs.user, np.unique(pairs.user[bought]))
        kept = pairs.take(useful)
        rows.append(features.features(kept, users, popularity))
        owners.append(kept.user + start)
        hits.append(bought[useful])
    return fit(np.concatenate(rows), np.concatenate(owners), np.concatenate(hits), sources=names)
