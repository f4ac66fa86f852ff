"""What is compared on H&M: the plain systems, and ours, trained on the training part alone.

In: a `Shop`, what may be learned from, the protocol. Out: systems (histories, k) -> (b, k) product rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hm_shop import Shop

from recsys.config import Settings
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.encoder.train import train_products, train_users
from recsys.evaluate import baselines
from recsys.evaluate.baselines import System
from recsys.evaluate.split import leave_last
from recsys.pipeline import rankers
from recsys.recommend.cases import newest
from recsys.recommend.recommender import Recommender
from recsys.recommend.rehearsal import fit_on, rehearse
from recsys.recommend.sources import Knowledge

_PARTS, _FOLDS = 5, 2


def plain(shop: Shop, train: Interactions, *, now: int, exclude_seen: bool) -> dict[str, System]:
    """The single baselines, and two simple sums of them."""
    days = baselines.popular(train, days=7, now=now)
    ever, again = baselines.popular(train), baselines.repurchase(len(shop.catalogue))
    item, text = baselines.item_item(train, shrinkage=40.0, decay=0.95), baselines.tfidf(shop.catalogue)
    popular = baselines.logarithm(days)
    mixed = baselines.summed([(1.0, baselines.relative(item)), (1.0, baselines.relative(text)), (0.05, popular)])
    scorers = {
        "popular": ever,
        "popular-7d": days,
        "repurchase": again,
        "item-item": item,
        "tf-idf": text,
        "item-item + tf-idf + popular": mixed,
        "repurchase, then item-item, then popular-7d": baselines.stacked(again, item, days),
    }
    if exclude_seen:
        del scorers["repurchase"], scorers["repurchase, then item-item, then popular-7d"]
    return {name: baselines.ranked(scorer, exclude_seen=exclude_seen) for name, scorer in scorers.items()}


def ours(
    shop: Shop,
    train: Interactions,
    *,
    now: int,
    complete: bool,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[System, dict[str, object]]:
    """Train the encoder and fit the blend, the blend on purchases that nothing it weighs has seen.

    Args:
        shop: catalogue and ids.
        train: the events that may be learned from.
        now: the moment of the test.
        complete: the lists shall complete a purchase, so the ranker is fitted on the last product of two fifths of the
            training customers, whom the encoder has not seen; else on the newest part of the log.
        settings: of encoder, training, ranker, recommend, rules.
        folder: checkpoints go here.
        say: told what is being done.

    Returns:
        The system, and what was learned: version of the model, weights of the blend.
    """
    catalogue, training, seed = shop.catalogue, settings.training, settings.training.seed
    if complete:
        people = np.random.default_rng(seed).permutation(np.unique(train.user))
        folds = [np.sort(people[part::_PARTS]) for part in range(_FOLDS)]
        early = train.where(~np.isin(train.user, np.concatenate(folds)))
        rehearsed = [leave_last(train, fold) for fold in folds]
    else:
        early, rehearsed = train.split(newest(train, settings.ranker.window_fraction))[0], []
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

    def users(events: Interactions, name: str) -> Model:
        say(f"train users on {len(events):,} events")
        return train_users(
            products,
            content,
            catalogue,
            events,
            objectives=settings.objectives,
            training=training,
            folder=folder / name,
            resume=True,
            progress=False,
        )

    say("fit the blend")
    if not rehearsed:
        blend = rehearse(
            catalogue,
            train,
            content,
            lambda events: users(events, "rehearsal"),
            ranker=settings.ranker,
            recommend=settings.recommend,
            rules=settings.rules,
            seed=seed,
        )
    else:
        known = users(early, "rehearsal")
        parts = [
            (cases, Knowledge(catalogue, others, known, content, settings.recommend, cases.now))
            for others, cases in rehearsed
        ]
        blend = fit_on(parts, rule_settings=settings.rules, ranker=settings.ranker, seed=seed)
    model = users(train, "users")
    say("prepare the sources")
    recommender = Recommender.assemble(
        catalogue,
        train,
        model=model,
        content=content,
        blend=blend,
        recommend=settings.recommend,
        rules=settings.rules,
        users=shop.users,
        now=now,
    )
    return recommender.ranked, {"model": model.version, "ranker": rankers.metrics(blend)}
