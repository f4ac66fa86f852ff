"""What is compared on H&M: the plain systems, and ours, trained on the training part alone.

In: a `Shop`, what may be learned from, the protocol. Out: systems (histories, k) -> (b, k) product rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from blind import directions
from hm_shop import Shop

from recsys.config import Settings
from recsys.data import schema
from recsys.data.holdout import HoldoutCases, cutoff_for_fraction
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.model import Model
from recsys.encoder.training.train import train_products, train_users
from recsys.evaluate import baselines
from recsys.evaluate.baselines import System
from recsys.evaluate.split import leave_last_of_test_users
from recsys.recommend.candidates.registry import SourceContext
from recsys.recommend.ranking import checkpoint as rankers
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker
from recsys.recommend.ranking.linear import LinearRanker
from recsys.recommend.ranking.training import fit_ranker, fit_ranker_on_holdout
from recsys.recommend.recommender import Recommender
from recsys.types import FloatArray

_PARTS, _FOLDS = 5, 2


def plain(shop: Shop, train: Interactions, *, now: int, exclude_seen: bool) -> dict[str, System]:
    """The single baselines, and two simple sums of them."""
    days = baselines.popularity(train, days=7, now=now)
    ever, again = baselines.popularity(train), baselines.repurchase(len(shop.catalogue))
    item, text = baselines.item_knn(train, shrinkage=40.0, decay=0.95), baselines.tfidf(shop.catalogue)
    popular = baselines.log1p_scores(days)
    mixed = baselines.weighted_sum(
        [(1.0, baselines.normalize_scores(item)), (1.0, baselines.normalize_scores(text)), (0.05, popular)]
    )
    scorers = {
        "popular": ever,
        "popular-7d": days,
        "repurchase": again,
        "item-item": item,
        "tf-idf": text,
        "item-item + tf-idf + popular": mixed,
        "repurchase, then item-item, then popular-7d": baselines.chain(again, item, days),
    }
    if exclude_seen:
        del scorers["repurchase"], scorers["repurchase, then item-item, then popular-7d"]
    return {name: baselines.to_ranked_lists(scorer, exclude_purchased=exclude_seen) for name, scorer in scorers.items()}


def ours(
    shop: Shop,
    train: Interactions,
    *,
    now: int,
    complete: bool,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
    balances: Sequence[tuple[float, float]] = (),
) -> tuple[dict[str, System], Recommender, dict[str, object]]:
    """Train the encoder and fit the ranker, the ranker on purchases that nothing it weighs has seen.

    Args:
        shop: catalogue and ids.
        train: the events that may be learned from.
        now: the moment of the test.
        complete: the lists shall complete a purchase; see `Lesson`.
        settings: of encoder, training, ranker, recommend, rules.
        folder: checkpoints go here.
        say: told what is being done.
        balances: weights of diversity and calibration that are compared beside none.

    Returns:
        The systems, what makes their lists, and what was learned: version of the model, the ranker.
    """
    lesson = Lesson(shop, train, complete=complete, settings=settings, folder=folder, say=say)
    ranker = lesson.ranker()
    model = lesson.users(train, "users")
    say("prepare the sources")
    recommender = Recommender.build(
        shop.catalogue,
        train,
        model=model,
        content=lesson.content,
        ranker=ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        users=shop.users,
        now=now,
    )
    systems: dict[str, System] = {"recsys": recommender.recommend_rows}
    for diversity, calibration in balances:
        twin = recommender.with_diversity(diversity=diversity, calibration=calibration)
        systems[f"recsys, diversity {diversity:g}, calibration {calibration:g}"] = twin.recommend_rows
    return systems, recommender, {"model": model.version, "ranker": rankers.ranker_metrics(ranker)}


def read_aloud(recommender: Recommender, cases: HoldoutCases, count: int, *, seed: int) -> list[str]:
    """Lines to judge lists by eye: what some customers had, what they are told, what they bought then."""
    frame = recommender.catalogue.frame
    shown = [name for name in (schema.TITLE, "attributes.colour_group", schema.CATEGORY) if name in frame.columns]
    names = frame.select(pl.concat_str(shown, separator=", ", ignore_nulls=True)).to_series().to_list()
    some = cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), min(count, len(cases)), replace=False)))
    lists = recommender.recommend_batch(some.histories, 12)
    told, said = recommender.explain(lists), []
    for row, targets in enumerate(some.targets):
        own = some.histories.items[row]
        said.append(f"customer {row + 1} had: {'; '.join(names[at] for at in own[own >= 0][-12:].tolist())}")
        for at in np.flatnonzero(lists.user == row).tolist():
            hit = " <- bought" if lists.item[at] in targets else ""
            said.append(f"  {lists.rank[at]:2d} {names[lists.item[at]]} | {told[at]}{hit}")
        said.append(f"  bought: {'; '.join(names[at] for at in targets.tolist())}")
    return said


class Lesson:
    """Products learned from what the ranker is not fitted on, and the rehearsals it is fitted on."""

    def __init__(
        self,
        shop: Shop,
        train: Interactions,
        *,
        complete: bool,
        settings: Settings,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Train the product encoder.

        Args:
            shop: catalogue and ids.
            train: the events that may be learned from.
            complete: the ranker is fitted on the last product of two fifths of the training customers, of whom the
                encoder has seen nothing; else on the newest part of the log.
            settings: of encoder, training, ranker, recommend.
            folder: checkpoints go here.
            say: told what is being done.
        """
        self.catalogue, self.train, self.settings, self.folder, self.say = shop.catalogue, train, settings, folder, say
        self._folds: list[tuple[Interactions, HoldoutCases]] = []
        if complete:
            people = np.random.default_rng(settings.training.seed).permutation(np.unique(train.user))
            folds = [np.sort(people[part::_PARTS]) for part in range(_FOLDS)]
            self.early = train.where(~np.isin(train.user, np.concatenate(folds)))
            self._folds = [leave_last_of_test_users(train, fold) for fold in folds]
        else:
            self.early = train.split(cutoff_for_fraction(train, settings.ranker.window_fraction))[0]
        say(f"train products on {len(self.early):,} events")
        self.products = train_products(
            self.catalogue,
            self.early,
            encoder=settings.encoder,
            objectives=settings.objectives,
            training=settings.training,
            folder=folder / "products",
            resume=True,
            progress=False,
        )
        self.content = self.products.encode(self.catalogue, np.arange(len(self.catalogue)))

    def users(self, events: Interactions, name: str, *, content: FloatArray | None = None) -> Model:
        """A model with a user encoder trained on some events, on other vectors of the products if given."""
        self.say(f"train users on {len(events):,} events")
        return train_users(
            self.products,
            self.content if content is None else content,
            self.catalogue,
            events,
            objectives=self.settings.objectives,
            training=self.settings.training,
            folder=self.folder / name,
            resume=True,
            progress=False,
        )

    def ranker(self) -> LinearRanker | BoostedTreesRanker:
        """The ranker, fitted on the rehearsals."""
        self.say("fit the ranker")
        settings, seed = self.settings, self.settings.training.seed
        if self._folds:
            return fit_ranker_on_holdout(
                self.rehearsals(), rule_settings=settings.rules, ranker=settings.ranker, seed=seed
            )
        return fit_ranker(
            self.catalogue,
            self.train,
            self.content,
            lambda events: self.users(events, "rehearsal"),
            ranker=settings.ranker,
            recommend=settings.recommend,
            rules=settings.rules,
            seed=seed,
        )

    def rehearsals(self, without: str = "") -> list[tuple[HoldoutCases, SourceContext]]:
        """Cases of each fold, and what may be known for them.

        Args:
            without: "vectors" = the product vectors say nothing; "content" = those of the user encoder alone;
                "residual" = the user encoder has no residual of ids; "" = nothing is taken away.
        """
        blind = directions(self.content.shape, self.settings.training.seed)
        used = blind if without in ("vectors", "content") else None
        known: Any = self.users(self.early, f"rehearsal-{without}".rstrip("-"), content=used)
        if without == "residual":
            with torch.no_grad():
                known.user_encoder.ranking.residual.weight.zero_()
        if without == "content":
            known = _Blind(known, blind)
        vectors = blind if without == "vectors" else self.content
        return [
            (cases, SourceContext(self.catalogue, others, known, vectors, self.settings.recommend, cases.now))
            for others, cases in self._folds
        ]


class _Blind:
    """A model whose ranking vectors are made from other vectors than it is given."""

    def __init__(self, model: Model, vectors: FloatArray) -> None:
        self._model, self._vectors = model, vectors
        self.user_vectors, self.user_encoder = model.user_vectors, model.user_encoder

    def item_vectors(self, _: FloatArray, ids: IdMap) -> FloatArray:
        return self._model.item_vectors(self._vectors, ids)
