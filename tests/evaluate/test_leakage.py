"""The leak check catches a leak planted in each place, and finds none in the systems that are compared."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.data.holdout import HoldoutCases
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.data.tfidf import product_tfidf
from recsys.evaluate import baselines, split
from recsys.evaluate import leakage as leaks
from recsys.evaluate import linear_baselines as linear
from recsys.evaluate import registry as systems
from recsys.evaluate.training_view import TrainingView
from recsys.recommend.ranking.training import fit_ranker
from recsys.recommend.recommender import Recommender
from tests.recommend.shops import DAY, START, StubModel, catalogue, histories, interactions, vectors

N, USERS, CUT = 40, 400, START + 24 * DAY


def dated_shop():
    """40 products; the last four are created after the cut and bought only then."""
    made = np.where(np.arange(N) < N - 4, START - DAY, CUT + DAY)
    shop = catalogue(N)
    shop = dataclasses.replace(shop, frame=shop.frame.with_columns(pl.Series("created_at", made)))
    old = interactions(users=USERS, items=N - 4)
    g = np.random.default_rng(1)
    late = 60
    known = Interactions.from_events(
        user=np.concatenate([old.user, g.integers(0, USERS, late)]),
        item=np.concatenate([old.item, g.integers(N - 4, N, late)]),
        time=np.concatenate([old.time, g.integers(CUT + DAY, CUT + 5 * DAY, late)]),
        n_users=USERS,
        n_items=N,
    )
    return shop, known


SHOP, KNOWN = dated_shop()
HELD = split.create_split("time", KNOWN, days=6, max_users=1000, seed=0)
WORLDS = leaks.perturb_holdout(SHOP, KNOWN, HELD)
SOME = HELD.cases.take(np.arange(40)).histories


def past_of(world):
    past = TrainingView.from_catalogue(world.catalogue, world.interactions.split(CUT)[0], now=CUT, cutoff=CUT)
    return past.with_candidates(leaks.visible_products(world.catalogue, HELD))


def noticed(build, changed=WORLDS, some=SOME):
    return leaks.find_leaks(build, changed, some, k=12)


def listed(scorer, world):
    return baselines.to_ranked_lists(scorer, exclude_purchased=True, allowed=past_of(world).catalogue.sellable)


def test_the_worlds_differ_in_the_held_back_part_alone():
    assert list(WORLDS) == ["unchanged", "events", "counts", "nothing", "texts", "catalogue", "all together"]
    assert HELD.cutoff == CUT and leaks.visible_products(SHOP, HELD).tolist() == [True] * 36 + [False] * 4
    before = KNOWN.split(CUT)[0]
    for name, world in WORLDS.items():
        early = world.interactions.split(CUT)[0]
        assert all(np.array_equal(getattr(early, key), getattr(before, key)) for key in ("user", "item", "time")), name
        assert world.catalogue.frame[:-4].equals(SHOP.frame[:-4])
    assert len(WORLDS["counts"].interactions.split(CUT)[1]) == 3 * len(KNOWN.split(CUT)[1])
    assert not len(WORLDS["nothing"].interactions.split(CUT)[1])
    events, asis = WORLDS["events"].interactions.split(CUT)[1], KNOWN.split(CUT)[1]
    assert not np.array_equal(events.item, asis.item) and not np.array_equal(events.user, asis.user)
    assert (WORLDS["texts"].catalogue.frame["title"][-4:] != SHOP.frame["title"][-4:]).all()


@pytest.mark.parametrize("name", systems.BASELINES)
def test_no_baseline_sees_what_is_held_back(name):
    assert noticed(lambda world: systems.create_baseline(name, past_of(world))[1]) == []


@pytest.mark.parametrize(
    "model", [baselines.item_knn, linear.ease, linear.als, baselines.popularity], ids=lambda model: model.__name__
)
def test_a_leak_of_events_is_caught(model):
    """Learned from the whole log."""
    assert set(noticed(lambda world: listed(model(world.interactions), world))) >= {"events", "nothing"}


def test_a_leak_of_popularity_counts_is_caught():
    """Popular in the days around the moment of the list, the days after it included."""

    late = lambda world: listed(baselines.popularity(world.interactions, days=7, now=CUT), world)  # noqa: E731
    assert {"events", "nothing"} <= set(noticed(late))
    mixed = lambda world: listed(  # noqa: E731 - counts three times as large weigh more against the rest
        baselines.weighted_sum(
            [(1.0, baselines.item_knn(past_of(world).train)), (1e-3, baselines.popularity(world.interactions))]
        ),
        world,
    )
    assert "counts" in noticed(mixed)


def test_a_leak_of_the_vocabulary_is_caught():
    """Word frequencies taken of all products, those created after the cut included."""
    assert noticed(lambda world: listed(baselines.tfidf(world.catalogue), world)) == ["texts", "all together"]
    assert noticed(lambda world: listed(baselines.tfidf(world.catalogue, known=past_of(world).known), world)) == []


def in_clusters(world, *, known):
    """Popular before the cut within the clusters of the user's products; clusters of the words of some products."""
    words = product_tfidf(world.catalogue, fit_on=past_of(world).known).toarray()
    groups = KMeans(6, n_init=1, random_state=0).fit(words[known]).predict(words)
    counts = past_of(world).train.counts()

    def scores(given):
        out = np.zeros((len(given), N))
        for row, items in enumerate(given.items):
            mine = groups[items[items >= 0]]
            out[row] = counts * np.array([(mine == group).sum() for group in groups])
        return out

    return listed(scores, world)


def test_a_leak_of_clusters_is_caught():
    """Products grouped together with those created after the cut."""
    leaky = noticed(lambda world: in_clusters(world, known=np.ones(N, bool)))
    assert leaky == ["texts", "all together"]
    assert noticed(lambda world: in_clusters(world, known=past_of(world).known)) == []


def ours(world, *, fitted_on):
    """Our recommender with a stand-in for the encoder; the blend fitted on some events."""
    settings = {"ranker": RankerSettings(window_fraction=0.3), "rules": RuleSettings(), "seed": 0}
    chosen, content = RecommendSettings(), vectors(N)
    past = past_of(world)
    blend = fit_ranker(
        past.with_blank_new_texts(), fitted_on, content, lambda _: StubModel(), recommend=chosen, **settings
    )
    made = Recommender.build(
        past.with_blank_new_texts(),
        past.train,
        model=StubModel(),
        content=content,
        ranker=blend,
        recommend=chosen,
        rules=settings["rules"],
        users=IdMap(f"u{row}" for row in range(USERS)),
        now=CUT,
    )
    return made.recommend_rows


def test_a_leak_through_the_rankers_window_is_caught():
    """The blend fitted on the newest part of the whole log, which is the test."""
    leaky = noticed(lambda world: ours(world, fitted_on=world.interactions))
    assert "events" in leaky and "nothing" in leaky
    assert noticed(lambda world: ours(world, fitted_on=past_of(world).train)) == []


@pytest.mark.parametrize("way", ["last", "users"])
def test_without_a_cut_the_targets_are_changed(way):
    held = split.create_split(way, KNOWN, days=6, max_users=1000, seed=0)
    changed = leaks.perturb_holdout(SHOP, KNOWN, held)
    assert list(changed) == ["unchanged", "targets"]
    some = held.cases.take(np.arange(30)).histories
    asis, other = changed["unchanged"].interactions, changed["targets"].interactions
    moved = set(zip(asis.user, asis.item, asis.time, strict=True)) - set(
        zip(other.user, other.item, other.time, strict=True)
    )
    judged = len(held.cases)
    assert len(moved) >= judged * 0.99

    def honest(world):
        again = split.create_split(way, world.interactions, days=6, max_users=1000, seed=0)
        return listed(baselines.item_knn(again.train), world)

    assert noticed(honest, changed, some) == []
    assert noticed(lambda world: listed(baselines.item_knn(world.interactions), world), changed, some) == ["targets"]


def test_a_system_that_looks_at_nothing_notices_nothing():
    blind = lambda _: lambda given, k: np.tile(np.arange(k), (len(given), 1))  # noqa: E731
    assert noticed(blind, some=HoldoutCases(histories([[1]]), (np.array([2]),), CUT).histories) == []
