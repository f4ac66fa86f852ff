"""Whole lists under rules: always k long where hard rules allow it, in the stated order, with everything counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataContractError
from recsys.recommend.recommendations import Recommendations
from recsys.recommend.rules.backfill import backfill
from recsys.recommend.rules.statistics import rule_stats_rows, rule_stats_warnings
from tests.recommend.ruled import BRANDS, N, goods, shop, whole
from tests.recommend.shops import DAY, START, events, histories, interactions

PRICE = 10.0 + np.arange(N)


def check(found, users, k, *, lengths=None):
    """Ranks 1..n, distinct products, scores that fall with ties by row."""
    for user in range(users):
        mine = found.user == user
        n = k if lengths is None else lengths[user]
        assert found.rank[mine].tolist() == list(range(1, n + 1))
        items, scores = found.item[mine].tolist(), found.score[mine].tolist()
        assert len(set(items)) == n and np.isfinite(scores).all()
        order = list(zip([-score for score in scores], items, strict=True))
        assert order == sorted(order)


RULES = {
    "caps": {"caps": {"brand": 2, "category": 3, "colour": 4}},
    "price": {"price_min": 12, "price_max": 45, "price_factor": 1.5},
    "campaign": {"include": [f"p{row:04d}" for row in range(0, N, 2)], "exclude": ["p0002"]},
    "new": {"min_new": 3, "new_days": 5},
    "replenish": {"replenish_days": {"shoes": 3, "*": 1000}},
    "exclude": {"seen": "exclude", "caps": {"category": 1}},
    "all": {
        "caps": {"brand": 3},
        "price_factor": 2,
        "price_min": 11,
        "min_new": 2,
        "replenish_days": {"*": 9},
        "exclude": ["p0001"],
    },
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("more", [{}, {"diversity": 0.3}, {"diversity": 0.3, "calibration": 0.3}])
def test_lists_are_k_long_and_in_order_under_any_rules(name, more):
    recommender = shop(rules=RULES[name], **more)
    found, users = whole(recommender)
    check(found, len(users), 12)
    assert recommender.rules.allowed_mask[found.item].all()
    keys = found.user * N + found.item
    if name in ("exclude", "replenish", "all"):  # no source is exempt
        assert not np.isin(keys, recommender.rules.excluded_pairs(users)).any()
    figures = recommender.rule_stats.to_dict()
    assert figures["lists"] == len(users) and figures["lists_short"] == figures["lists_empty"] == 0


@pytest.mark.parametrize("name", RULES)
def test_the_same_rules_give_the_same_bytes_whoever_is_asked_with_whom(name):
    one, two = shop(rules=RULES[name], diversity=0.2), shop(rules=RULES[name], diversity=0.2)
    ids = list(one.users.texts)
    frame = one.recommend(ids, 8)
    assert frame.equals(two.recommend(ids, 8))
    alone, together = two.recommend([ids[5]], 8), frame.filter(frame["user_id"] == ids[5])
    assert together.drop("score").equals(alone.drop("score"))


@given(lists=st.lists(st.lists(st.integers(0, 39), max_size=20), min_size=1, max_size=5), k=st.integers(1, 14))
def test_rules_that_bind_nothing_leave_every_list_as_it_is(lists, k):
    loose = {"caps": {"brand": 99}, "min_new": 0, "price_min": 0.5, "price_factor": 1e6, "exclude": []}
    plain, ruled = (one.recommend_batch(histories(lists), k) for one in (PLAIN, shop(rules=loose)))
    for name in ("user", "rank", "item", "score", "source", "source_item", "event_type"):
        assert getattr(plain, name).tobytes() == getattr(ruled, name).tobytes(), name


PLAIN = shop()


def test_caps_hold_where_candidates_allow_it():
    recommender = shop(rules={"caps": {"brand": 2, "colour": 3}})
    found, users = whole(recommender, 6)
    for user in range(len(users)):
        mine = found.item[found.user == user]
        assert np.bincount(mine % 3).max() <= 2 and np.bincount(mine % 2).max() <= 3
    figures = recommender.rule_stats.to_dict()
    assert figures["places_filled"] == {"over_a_cap": 0, "popular": 0}
    assert figures["places_moved"]["caps.brand"] > 0 and figures["places_moved"]["caps.colour"] > 0


def test_the_fallbacks_come_in_their_order():
    """Candidates within the cap, then those over it by falling score, then what is popular."""
    known = events([(0, item, 0) for item in range(4)] + [(1, 9, 0), (1, 8, 0)], n_users=2, n_items=12)
    recommender = shop(
        known=known, catalogue=goods(12), rules={"caps": {"brand": 1}, "seen": "allow"}, sources=["repurchase"]
    )
    found = recommender.recommend_batch(known.histories(np.array([0]), 9), 7)
    check(found, 1, 7)
    by_score = PLAIN_ORDER = [3, 2, 1, 0]  # repurchase: the last in the basket first
    within, over = by_score[:3], by_score[3:]
    assert [BRANDS[item % 3] for item in within] == ["Aro", "Cim", "Bex"]
    assert found.item.tolist()[:4] == within + over and PLAIN_ORDER == by_score
    assert found.item.tolist()[4:] == [item for item in recommender._popular.ranked_items.tolist() if item > 3][:3]
    assert recommender.rule_stats.to_dict()["places_filled"] == {"over_a_cap": 1, "popular": 3}


def test_the_fallback_keeps_hard_rules_and_relaxes_the_band():
    recommender = shop(
        rules={"price_factor": 1.01, "price_max": 30, "exclude": ["p0003"], "seen": "exclude"}, sources=["popular"]
    )
    found = recommender.recommend_batch(histories([[0, 1], [5]]), 15)
    check(found, 2, 15)
    assert (PRICE[found.item] <= 30).all() and 3 not in found.item
    assert not {0, 1} & set(found.item[found.user == 0].tolist())
    assert recommender.rule_stats.filled_positions["popular"] >= 20, (
        "hardly a candidate is within one percent of the median"
    )


def test_hard_rules_make_lists_shorter_and_it_is_said():
    recommender = shop(rules={"include": ["p0001", "p0002", "p0003"], "seen": "exclude"})
    found = recommender.recommend_batch(histories([[1, 2], [1, 2, 3], []]), 5)
    check(found, 3, 5, lengths=[1, 0, 3])
    figures = recommender.rule_stats.to_dict()
    assert (figures["lists_short"], figures["lists_empty"]) == (3, 1)
    assert figures["products_barred"] == {"available_only": 0, "include": N - 3}
    assert rule_stats_warnings(recommender.rule_stats.to_dict()) == [
        "3 of 3 lists are shorter than k: the rules leave no further product"
    ]


def test_a_campaign_is_searched_by_taste_and_not_only_filled():
    chosen = [f"p{row:04d}" for row in range(20, 40)]
    recommender = shop(rules={"include": chosen}, candidates=5)
    found = recommender.recommend_batch(histories([[0, 2, 4], [1, 3, 5]]), 5)
    assert recommender.rule_stats.filled_positions["popular"] == 0
    one, two = (found.item[found.user == user].tolist() for user in (0, 1))
    assert one != two and min(one + two) >= 20


def test_new_products_stand_in_every_list_and_what_is_missing_is_counted():
    known = interactions(items=30)
    catalogue = goods(40)
    wide = type(known).from_events(
        user=known.user,
        item=known.item,
        time=known.time,
        event_type=known.event_type,
        n_users=known.n_users,
        n_items=40,
    )
    recommender = shop(known=wide, catalogue=catalogue, rules={"min_new": 2, "new_days": 0.001}, candidates=40)
    new = recommender.rules.list_constraints[0].new_mask
    assert new[30:].all()
    found, users = whole(recommender, 6)
    check(found, len(users), 6)
    held = np.bincount(found.user, new[found.item], minlength=len(users))
    missing = int(np.maximum(2 - held, 0).sum())
    assert recommender.rule_stats.new_missing == missing and (held >= 2).mean() > 0.9
    few = shop(known=wide, catalogue=catalogue, rules={"min_new": 2, "new_days": 0.001}, sources=["repurchase"])
    whole(few, 3)
    assert (
        few.rule_stats.new_missing > 0
        and "not enough new candidates" in rule_stats_warnings(few.rule_stats.to_dict())[0]
    )


def test_what_each_rule_strikes_out_is_counted_once():
    rules = {"exclude": ["p0001"], "seen": "exclude", "price_factor": 1.2}
    recommender = shop(rules=rules, sources=["repurchase", "popular"])
    recommender.recommend_batch(histories([[1, 4], []]), 5)
    # user 0: repurchase says 1 and 4, popular all but 1; user 1 has only popular, which never offers 1
    struck = recommender.rule_stats.filtered_pairs
    assert struck["exclude"] == 1 and struck["seen"] == 1 and struck["available_only"] == 0
    assert 0 < struck["price_factor"] < 39
    assert [row[:2] for row in rule_stats_rows(recommender.rule_stats.to_dict())][:2] == [
        ("available_only", "products excluded"),
        ("exclude", "products excluded"),
    ]


@given(
    missing=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    barred=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 29)), max_size=80),
    k=st.integers(9, 12),
)
def test_filling_is_the_first_free_of_the_popular(missing, barred, k):
    order = np.random.default_rng(0).permutation(30)[:25].astype(np.int64)
    b = len(missing)
    user = np.repeat(np.arange(b), [k - one for one in missing])
    rank = np.concatenate([np.arange(1, k - one + 1) for one in missing])
    item, none = rank + 15, np.full(len(user), -1)
    lists = Recommendations(user, rank, item, -rank.astype(np.float32), none, none, none)
    keys = np.array([at * 30 + row for at, row in barred if at < b], np.int64)
    found = backfill(lists, k, n_users=b, popular_items=order, excluded=lambda: keys, n_items=30, popular_source=7)
    for one in range(b):
        had, now = item[user == one].tolist(), found.item[found.user == one].tolist()
        closed = {*had, *(row for at, row in barred if at == one)}
        assert now == had + [row for row in order.tolist() if row not in closed][: k - len(had)]


# --- bad input -------------------------------------------------------------------------------------------------------

EVERYTHING = {**RULES["all"], "caps": {"brand": 1, "category": 1}}


def test_everybody_is_cold():
    known = events([(0, 3, 0)], n_users=1, n_items=N)
    recommender = shop(known=known, rules=EVERYTHING, diversity=0.5, calibration=0.2)
    found = recommender.recommend_batch(histories([[], [], []]), 6)
    check(found, 3, 6)
    assert found.item[:6].tolist() == found.item[6:12].tolist()
    with pytest.raises(DataContractError, match="no events"):
        shop(known=known.where(np.zeros(1, bool)), rules=EVERYTHING)


def test_a_shop_of_one_product():
    known = events([(0, 0, 0), (1, 0, 3, 2)], n_users=3, n_items=1)
    rules = {"caps": {"brand": 1}, "min_new": 2, "price_factor": 2, "replenish_days": {"*": 1}}
    recommender = shop(known=known, catalogue=goods(1), rules=rules, diversity=0.5, calibration=0.5)
    assert recommender.recommend(["u0000", "u0001", "u0002"], 5)["product_id"].to_list() == ["p0000"] * 3
    excluded = shop(known=known, catalogue=goods(1), rules={"seen": "exclude"}, diversity=0.5)
    assert excluded.recommend(["u0000", "u0001"], 5)["user_id"].to_list() == ["u0001"]


def test_a_user_with_a_hundred_thousand_events():
    g = np.random.default_rng(0)
    known = interactions(items=N)
    many = 100_000
    held = type(known).from_events(
        user=np.concatenate([known.user, np.full(many, 3)]),
        item=np.concatenate([known.item, g.integers(0, N - 1, many)]),
        time=np.concatenate([known.time, START + g.integers(0, 9 * DAY, many)]),
        n_users=known.n_users,
        n_items=N,
    )
    recommender = shop(known=held, rules={**EVERYTHING, "replenish_days": {}, "seen": "exclude"}, calibration=0.3)
    assert recommender.recommend(["u0003"], 5)["product_id"].to_list() == [f"p{N - 1:04d}"]
    again = shop(known=held, rules={"replenish_days": {"*": 0.001}, "price_factor": 2})
    assert again.recommend(["u0003"], 12).height == 12


def test_events_of_one_moment():
    known = events([(user, (user + at) % N, 0) for user in range(6) for at in range(8)], n_users=6, n_items=N)
    recommender = shop(known=known, rules=EVERYTHING, diversity=0.3, calibration=0.3)
    found, _ = whole(recommender, 9)
    check(found, 6, 9)
    assert recommender.rules.list_constraints[-1].new_mask.all(), "all of it happened within the days"


def test_rules_that_leave_nothing_stop_before_any_list():
    with pytest.raises(ConfigError, match="the rules leave no product"):
        shop(rules={"include": ["p0001"], "exclude": ["p0001"]})
    with pytest.raises(ConfigError, match="rules.caps: unknown column 'brnd'"):
        shop(rules={"caps": {"brnd": 2}})
    with pytest.raises(ConfigError, match="recommend.calibration_column: unknown column 'categroy'"):
        shop(calibration=0.5, calibration_column="categroy")
