"""What events mean: returns, ratings, weights, customers and dates, from the rows of a shop to its lists.

Lists come from the real sources and rules over the loaded data, with a stand-in for the trained encoder.
"""

from __future__ import annotations

import datetime
import logging
import random

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.evaluate import registry
from recsys.pipeline.evaluate_leaks import check_leakage
from recsys.pipeline.evaluate_systems import create_training_view, split_interactions
from recsys.recommend.ranking.linear import equal_weights
from recsys.recommend.recommender import Recommender
from tests.recommend.shops import StubModel, vectors

COLUMNS = ("user_id", "product_id", "event_type", "occurred_at")


def day(n, hour=12):
    moment = datetime.datetime(2025, 6, 1, hour, tzinfo=datetime.UTC) + datetime.timedelta(days=n)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def products(n, *others):
    rows = [{"product_id": f"p{i:03d}", "title": f"thing {i}", "category": "A", "price": 10.0 + i} for i in range(n)]
    return rows + [{"product_id": name, "title": name, "category": "A", "price": 30.0} for name in others]


def event(user, product, moment, kind="purchase", **cells):
    return dict(zip(COLUMNS, (user, product, kind, moment), strict=True)) | cells


@pytest.fixture
def open_shop(tmp_path):
    """Opens a shop of these products and events."""
    opened = []

    def build(catalogue, events, **settings):
        folder = tmp_path / f"shop{len(opened)}"
        recsys.init(folder)
        shop = recsys.open(folder, settings={"training.epochs": 1, **settings})
        shop.ingest(products=pl.DataFrame(catalogue), events=pl.DataFrame(events, infer_schema_length=None))
        opened.append(shop)
        return shop

    yield build
    for shop in opened:
        shop.close()


def recommender(shop):
    """The recommender over the loaded data, with equal weights."""
    project = shop._project
    dataset, settings = project.dataset, project.settings
    return Recommender.build(
        dataset.catalogue,
        dataset.interactions,
        model=StubModel(),
        content=vectors(len(dataset.catalogue)),
        ranker=equal_weights(settings.recommend.sources),
        recommend=settings.recommend,
        rules=settings.rules,
        users=dataset.users,
    )


def baseline(shop, name, user):
    """The ten products that a baseline lists for a user, and the split."""
    project = shop._project
    split = split_interactions(project, project.dataset.interactions)
    system = registry.create_baseline(name, create_training_view(project, project.dataset.catalogue, split))[1]
    at = split.cases.histories.users.tolist().index(int(project.dataset.users.rows([user])[0]))
    rows = system(split.cases.take(np.array([at])).histories, 10)[0]
    return project.dataset.catalogue.ids.ids(rows[rows >= 0]), split


@pytest.fixture
def sent_back():
    """A product bought by 25 customers this week, and sent back by all of them the next day."""
    g = random.Random(3)
    rows = [event(f"u{u:02d}", f"p{g.randrange(15):03d}", day(g.randrange(50))) for u in range(40) for _ in range(5)]
    for u in range(25):
        rows.append(event(f"u{u:02d}", "bad", day(55), order_id=f"c{u}"))
        rows.append(event(f"u{u:02d}", "bad", day(56), "return", order_id=f"c{u}"))
    rows.append(event("u30", "p001", day(57)))
    return rows


def test_a_product_that_all_sent_back_is_neither_popular_nor_shown_to_them(open_shop, sent_back):
    shop = open_shop(products(15, "bad"), sent_back)
    own = recommender(shop)
    assert "bad" not in own.recommend_default(15)["product_id"].to_list()
    users = [f"u{u:02d}" for u in range(40)]
    shown = own.recommend(users, 16).filter(pl.col("product_id") == "bad")
    assert not set(shown["user_id"]) & set(users[:25])
    assert shown.filter(pl.col("reason").str.contains("popular|together")).is_empty()
    counts = shop.check().counts
    assert (counts["returns"], counts["purchases_returned"], counts["returns_without_purchase"]) == (25, 25, 0)
    parts = dict(next(table for table in shop.check().tables if table.name == "what the models get").rows)
    assert parts["returns"].startswith("25 returns cancel 25 purchases and reduce 0")


@pytest.mark.parametrize("seen", ["allow", "repurchase", "exclude"])
def test_what_a_user_sent_back_stays_out_under_every_rule(open_shop, sent_back, seen):
    shop = open_shop(products(15, "bad"), sent_back, **{"rules.seen": seen})
    lists = recommender(shop).recommend(["u00", "u24"], 16)
    assert "bad" not in lists["product_id"].to_list()
    again = open_shop(products(15, "bad"), [*sent_back, event("u00", "bad", day(57))], **{"rules.seen": seen})
    lists = recommender(again).recommend(["u00", "u24"], 16).filter(pl.col("product_id") == "bad")
    assert lists["user_id"].to_list() == ([] if seen == "exclude" else ["u00"])


def test_one_pack_sent_back_leaves_the_product_to_buy_again(open_shop):
    g = random.Random(4)
    rows = [
        event(f"u{u:02d}", f"p{g.randrange(15):03d}", day(g.randrange(80)), quantity=1)
        for u in range(20)
        for _ in range(6)
    ]
    rows += [event(who, "coffee", day(7 * w + 5), quantity=12) for who in ("keeps", "returns1") for w in range(10)]
    rows.append(event("returns1", "coffee", day(70), "return", quantity=1))
    shop = open_shop(products(15, "coffee"), rows)
    for who in ("keeps", "returns1"):
        found = recommender(shop).recommend([who], 16).filter(pl.col("product_id") == "coffee")
        assert found.select("rank", "reason").rows() == [(1, "you bought this before")]
    assert shop.check().counts["purchases_returned_in_part"] == 1


def test_a_reseller_counts_a_little_more_than_one_customer(open_shop):
    g = random.Random(9)
    rows = [event(f"u{u:02d}", f"p{g.randrange(12):03d}", day(g.randrange(20))) for u in range(50) for _ in range(4)]
    rows += [event("reseller", "pallet", day(24 + i % 6, i % 24)) for i in range(600)]
    rows += [event("crawler", "banner", day(29), "view", order_id=str(i)) for i in range(600)]
    rows += [event(f"u{u:02d}", "tea", day(29), quantity=0.35) for u in range(20)]
    shop = open_shop(products(12, "pallet", "banner", "tea"), rows, **{"evaluate.test_days": 1})
    default = recommender(shop).recommend_default(15)
    assert default.row(0)[2] == "tea" and default["reason"][0] == "popular this week"
    others = recommender(shop).recommend([f"u{u:02d}" for u in range(50)], 5)
    assert others.filter(pl.col("product_id").is_in(["pallet", "banner"])).height == 0
    assert recommender(shop).recommend(["reseller"], 5)["product_id"][0] == "pallet"
    # by number of purchases, the pallet would stand first; by customers, it stands behind everything that two bought
    popular, split = baseline(shop, "popular", "u00")
    assert "pallet" not in popular[:3]
    assert len(split.train) > 500


def test_views_of_weight_0_are_no_taste(open_shop):
    g = random.Random(7)
    rows = [event(f"u{u:02d}", f"p{g.randrange(18):03d}", day(g.randrange(30))) for u in range(30) for _ in range(5)]
    rows += [event("looker", f"p{i:03d}", day(29), "view") for i in (2, 5, 8)]
    rows += [event(f"c{i}", "p019", day(29), "add_to_cart") for i in range(9)]
    weights = {"purchase": 1.0, "add_to_cart": 0.5, "view": 0.2, "wishlist": 0.4, "rating": 0.7, "return": 0.0}

    def lists(**changed):
        own = recommender(open_shop(products(20), rows, **{"data.event_weights": weights | changed}))
        looker, default = own.recommend(["looker"], 20), own.recommend_default(20)
        assert not looker["score"].is_nan().any()
        return looker.drop("user_id"), default.drop("user_id"), default["product_id"].to_list().index("p019")

    looker, default, with_carts = lists()
    assert not looker.equals(default)
    looker, default, _ = lists(view=0.0)
    assert looker.equals(default)
    assert lists(add_to_cart=0.0)[2] > with_carts


def test_a_user_profile_weighs_events_as_the_settings_say(open_shop):
    rows = [event(f"u{u}", f"p{(u + i) % 6:03d}", day(i), "view") for u in range(6) for i in range(4)]
    settings = {"purchase": 1.0, "view": 0.05}
    histories = open_shop(
        products(6), rows, **{"data.event_weights": settings}
    )._project.dataset.interactions.histories(np.array([0]), 4)
    assert histories.type_weights[2] == 0.05
    assert histories.type_weights[4] == 0.7  # a type that is not named keeps its default


@pytest.mark.parametrize(("positive", "n_low"), [(None, 2), (4.5, 3), (1.0, 0)])
def test_low_ratings_are_no_sign_of_liking(open_shop, positive, n_low):
    rows = [event(f"u{u}", "p000", day(u), "rating", value=value) for u, value in enumerate((1, 2.9, 4, 5, None))]
    rows.append(event("u9", "p001", day(1), value=0.5))  # the value of a purchase is no rating
    settings = {} if positive is None else {"data.positive_rating": positive}
    shop = open_shop(products(3), rows, **settings)
    assert shop.check().counts["ratings_not_positive"] == n_low
    assert len(shop._project.dataset.interactions) == 6 - n_low
    if n_low == 2:
        looker, default = (recommender(shop).recommend([name], 3).drop("user_id") for name in ("u0", "nobody"))
        assert looker.equals(default)


def test_a_mistyped_date_does_not_move_now(open_shop, caplog):
    g = random.Random(5)
    rows = [event(f"u{u:02d}", f"p{g.randrange(12):03d}", day(g.randrange(30))) for u in range(50) for _ in range(4)]
    right = recommender(open_shop(products(12), rows))
    with caplog.at_level(logging.WARNING):
        shop = open_shop(products(12), [*rows, event("u03", "p001", day(170)), event("u04", "p002", day(-4000))])
        own = recommender(shop)
    assert own.now == right.now
    assert own.recommend_default(12).equals(right.recommend_default(12))
    assert shop.check().counts["events_with_outlying_time"] == 2
    assert any("2 events lie far from all others" in line for line in shop.check().warnings)
    assert "2 left out, because their times lie far from those of all others" in caplog.text


@pytest.mark.parametrize("name", ["popular", "item-item", "als"])
def test_baselines_leave_out_all_that_a_user_bought(open_shop, name):
    g = random.Random(14)
    rows = [event("big", f"p{i:03d}", day(i // 8, i % 24)) for i in range(260)]
    rows += [event(f"u{u:02d}", f"p{g.randrange(40):03d}", day(g.randrange(34))) for u in range(60) for _ in range(6)]
    rows += [event("big", "p290", day(40)), event("u00", "p001", day(40))]
    shop = open_shop(products(300), rows, **{"evaluate.test_days": 3})
    listed, _ = baseline(shop, name, "big")
    assert not set(listed) & {f"p{i:03d}" for i in range(260)}


def test_an_evaluation_learns_nothing_from_later_returns(open_shop):
    """Returned after the cut: still a training event, no target; and a baseline does not show what was sent back."""
    g = random.Random(6)
    rows = [event(f"u{u:02d}", f"p{g.randrange(12):03d}", day(g.randrange(26))) for u in range(40) for _ in range(5)]
    rows += [event("a", "p001", day(10)), event("a", "x", day(20)), event("a", "x", day(29), "return")]
    rows += [event("a", "y", day(28)), event("a", "y", day(29, 13), "return"), event("a", "p002", day(29))]
    rows += [event("b", "z", day(5)), event("b", "z", day(6), "return"), event("b", "p003", day(29))]
    rows += [event(f"u{u:02d}", "z", day(25)) for u in range(30)]
    shop = open_shop(products(12, "x", "y", "z"), rows, **{"evaluate.test_days": 3})
    for name in ("popular", "repurchase"):
        listed, split = baseline(shop, name, "b")
        assert "z" not in listed
    dataset = shop._project.dataset
    ids, user = dataset.catalogue.ids, int(dataset.users.rows(["a"])[0])
    assert ids.ids(split.train.item[split.train.user == user]) == ["p001", "x"]
    at = split.cases.histories.users.tolist().index(user)
    assert ids.ids(split.cases.targets[at]) == ["p002"]
    tables = check_leakage(shop._project, ["popular", "item-item", "repurchase"])
    assert {row[2] for row in tables.rows} == {"nothing"}


@pytest.mark.parametrize("cells", [{"quantity": 1e39}, {"quantity": 4006381333931.0}, {"price": 1e39}, {"price": 9e37}])
@pytest.mark.parametrize("kind", ["purchase", "return"])
def test_scores_are_numbers_whatever_the_quantity_and_the_price(open_shop, cells, kind):
    g = random.Random(30)
    rows = [
        event(f"u{g.randrange(40):02d}", f"p{g.randrange(20):03d}", day(g.randrange(60)), quantity=1.0)
        for _ in range(400)
    ]
    rows.append(event("u01", "p002", day(50), kind, quantity=cells.get("quantity", 1.0)))
    catalogue = products(20)
    catalogue[3]["price"] = cells.get("price", 5.0)
    shop = open_shop(catalogue, rows, **{"data.max_bad_fraction": 0.5})
    assert np.isfinite(shop._project.dataset.interactions.weight).all()
    own = recommender(shop)
    users = shop._project.dataset.users.rows([f"u{u:02d}" for u in range(40)])
    with np.errstate(all="raise"):
        assert np.isfinite(own.score_candidates(own.histories(users), 20).x).all()
    assert own.recommend([f"u{u:02d}" for u in range(40)], 20)["score"].is_finite().all()


def test_an_incremental_run_notices_a_partial_return(open_shop):
    from recsys.pipeline.recommend_incremental import DataFingerprint, RunBasis, changed_users, hash_events_before

    g = random.Random(2)
    rows = [
        event(f"u{u:02d}", f"p{g.randrange(12):03d}", day(g.randrange(20)), quantity=3)
        for u in range(30)
        for _ in range(4)
    ]
    before = open_shop(products(12), rows)._project.dataset
    now = int(before.interactions.time.max()) + 1
    rows += [{**rows[0], "event_type": "return", "occurred_at": day(25), "quantity": 1}, event("u05", "p001", day(25))]
    project = open_shop(products(12), rows)._project
    assert hash_events_before(project.dataset, now) == hash_events_before(before, now)
    current, previous = (
        DataFingerprint(moment, "", "", _pack(project))
        for moment in (int(project.dataset.interactions.time.max()) + 1, now)
    )
    changed = changed_users(project, RunBasis(current, previous, previous, "run"))
    assert np.flatnonzero(changed).tolist() == sorted(project.dataset.users.rows(["u00", "u05"]).tolist())


def _pack(project):
    from recsys.pipeline.recommend_incremental import _pack_mask

    return _pack_mask(project.dataset.catalogue.sellable)
