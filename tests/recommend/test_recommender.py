from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import SOURCES
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError, ModelFolderError
from recsys.recommend.ranking import linear as rank
from recsys.recommend.rules import purchase_filters
from tests.recommend.shops import DAY, START, events, histories, interactions, recommender

SHOP = {seen: recommender(seen=seen) for seen in ("repurchase", "exclude", "allow")}
SELLABLE = np.arange(40) % 5 != 0
WITHOUT = recommender(sources=[name for name in SOURCES if name != "repurchase"])
PARTLY = recommender(sellable=SELLABLE)
own = st.lists(st.lists(st.integers(0, 39), max_size=25), min_size=1, max_size=6)


def check(lists, b, k, *, places=None):
    """Ranks 1..n, n = k or `places`, distinct products, scores that fall with ties by row."""
    for user in range(b):
        mine = lists.user == user
        n = k if places is None else min(k, places[user])
        assert lists.rank[mine].tolist() == list(range(1, n + 1))
        items, scores = lists.item[mine].tolist(), lists.score[mine].tolist()
        assert len(set(items)) == n
        order = list(zip([-score for score in scores], items, strict=True))
        assert order == sorted(order) and np.isfinite(scores).all()


@given(lists=own, k=st.integers(1, 14))
def test_lists_are_k_long_ranked_and_distinct(lists, k):
    check(SHOP["allow"].recommend_batch(histories(lists), k), len(lists), k)
    check(SHOP["repurchase"].recommend_batch(histories(lists), k), len(lists), k)


@given(lists=own, k=st.integers(1, 45))
def test_what_was_bought_is_never_listed_when_excluded_and_all_the_rest_can_be(lists, k):
    found = SHOP["exclude"].recommend_batch(histories(lists), k)
    check(found, len(lists), k, places=[40 - len(set(bought)) for bought in lists])
    for user, bought in enumerate(lists):
        assert not set(found.item[found.user == user].tolist()) & set(bought)


@given(lists=own, k=st.integers(1, 14))
def test_what_was_bought_is_listed_only_by_way_of_repurchase(lists, k):
    found = WITHOUT.recommend_batch(histories(lists), k)
    check(found, len(lists), k)
    for user, bought in enumerate(lists):
        assert not set(found.item[found.user == user].tolist()) & set(bought)


def test_a_repurchase_may_be_listed():
    found = SHOP["repurchase"].recommend_batch(histories([[1, 2]]), 5)
    assert {1, 2} <= set(found.item.tolist())


@given(lists=own, k=st.integers(1, 40))
def test_what_is_not_sold_is_never_listed(lists, k):
    found = PARTLY.recommend_batch(histories(lists), k)
    assert SELLABLE[found.item].all()


@given(lists=own)
def test_reasons_name_products_the_user_knows(lists):
    shop = SHOP["repurchase"]
    found = shop.recommend_batch(histories(lists), 10)
    for user, because in zip(found.user, found.source_item, strict=True):
        assert because == -1 or because in lists[user]


def test_a_list_does_not_depend_on_who_is_asked_with_it():
    shop = SHOP["repurchase"]
    together = shop.recommend_batch(histories([[1, 2], [], [7, 8, 9], [1, 2]]), 8)
    alone = shop.recommend_batch(histories([[7, 8, 9]]), 8)
    assert together.item[together.user == 2].tolist() == alone.item.tolist()
    assert together.item[together.user == 0].tolist() == together.item[together.user == 3].tolist()


def test_users_without_history_get_what_is_popular_by_the_same_line():
    shop = SHOP["repurchase"]
    frame = shop.recommend(["stranger", "u0003", "u0000"], 6)
    strangers = frame.filter(pl.col("user_id") == "stranger").drop("user_id")
    assert strangers.equals(frame.filter(pl.col("user_id") == "u0003").drop("user_id"))
    assert strangers.equals(shop.recommend_default(6).drop("user_id"))
    sold = shop.sources["popular"].ranked_items[:6].tolist()
    assert shop.catalogue.ids.rows(strangers["product_id"].to_list()).tolist() == sold
    assert set(strangers["reason"].to_list()) <= {"popular this week", "chosen by other customers"}
    assert shop.recommend_default(6)["user_id"].unique().to_list() == ["__default__"]


def test_the_frame_has_ranks_reasons_and_ids():
    frame = SHOP["repurchase"].recommend(["u0001", "u0000", "u0001"], 5)
    assert frame.schema == {
        "user_id": pl.String,
        "rank": pl.Int64,
        "product_id": pl.String,
        "score": pl.Float64,
        "reason": pl.String,
        "reason_product_id": pl.String,
    }
    assert frame["user_id"].to_list() == ["u0001"] * 5 + ["u0000"] * 5, "each user once, in the order asked"
    assert frame["reason"].null_count() == 0
    bought = frame.filter(pl.col("reason") == "you bought this before")
    assert (bought["product_id"] == bought["reason_product_id"]).all()


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_shards_hold_every_user_once_and_do_not_depend_on_each_other(chunk):
    shop, users = SHOP["repurchase"], np.arange(60)
    shards = [
        shop.recommend_shard(users[start : start + chunk], 4, include_default=start == 0)
        for start in range(0, 60, chunk)
    ]
    rows = pl.concat(shards)
    assert rows["user_id"].unique(maintain_order=True).to_list() == ["__default__", *shop.users.texts]
    assert rows.height == 61 * 4
    for shard in {1, len(shards) - 1} & set(range(1, len(shards))):
        alone = shop.recommend_shard(users[shard * chunk : (shard + 1) * chunk], 4, include_default=False)
        assert alone.equals(shards[shard])


def test_a_shop_without_users_has_the_default_list():
    known = events([(0, 1, 0)], n_users=1, n_items=40)
    frame = recommender(known=known).recommend_shard(np.zeros(0, np.int64), 3, include_default=True)
    assert frame["user_id"].to_list() == ["__default__"] * 3


def test_the_same_data_gives_the_same_bytes():
    one, two = (recommender().recommend([f"u{row:04d}" for row in range(60)], 12) for _ in range(2))
    assert one.equals(two) and one["score"].to_numpy().tobytes() == two["score"].to_numpy().tobytes()


def test_each_source_alone_fills_its_lists():
    for source in SOURCES:
        shop = recommender(sources=[source])
        check(shop.recommend_batch(histories([[1, 2, 3], []]), 10), 2, 10)


def test_a_catalogue_smaller_than_k_gives_all_of_it():
    shop = recommender(n=5, known=interactions(items=5), seen="exclude")
    found = shop.recommend_batch(histories([[0, 1], []]), 10)
    check(found, 2, 10, places=[3, 5])


@pytest.mark.parametrize("seen", ["allow", "exclude"])
def test_nobody_asked_for_has_a_history(seen):
    """New users alone: unknown to the data, or known without an event. All get the same list, nothing is missing."""
    shop = SHOP[seen]
    found = shop.recommend_batch(histories([[] for _ in range(7)]), 12)
    check(found, 7, 12)
    assert (found.source_item == -1).all()
    assert len({tuple(found.item[found.user == user].tolist()) for user in range(7)}) == 1
    frame = shop.recommend(["a", "b", "u0003"], 12)
    assert len(set(frame.partition_by("user_id", as_dict=False)[0]["product_id"])) == 12
    assert [part["product_id"].to_list() for part in frame.partition_by("user_id")] == [
        shop.recommend_default(12)["product_id"].to_list()
    ] * 3


@pytest.mark.parametrize("seen", ["allow", "repurchase", "exclude"])
def test_a_shop_of_one_product(seen):
    shop = recommender(n=1, known=events([(0, 0, 0), (1, 0, 3)], n_users=3, n_items=1), seen=seen)
    found = shop.recommend_batch(histories([[0], [0, 0], []]), 5)
    check(found, 3, 5, places=[1 - (seen == "exclude")] * 2 + [1])
    for source in SOURCES:
        check(
            recommender(n=1, known=shop.interactions, sources=[source]).recommend_batch(histories([[]]), 5),
            1,
            5,
            places=[1],
        )


def test_a_user_with_a_hundred_thousand_events_among_others():
    g = np.random.default_rng(0)
    many = np.zeros((100_000, 3), np.int64)
    many[:, 1], many[:, 2] = g.integers(30, size=len(many)), np.sort(g.integers(300, size=len(many)))
    few = [(1, 3, 10), (1, 35, 20), (2, 36, 299)]
    known = events(np.concatenate([many, few]).tolist(), n_users=3, n_items=40)
    shop = recommender(known=known, seen="exclude")
    frame = shop.recommend(["u0000", "u0001", "u0002"], 40)
    found = {part["user_id"][0]: part["product_id"].to_list() for part in frame.partition_by("user_id")}
    assert sorted(found["u0000"]) == [f"p{row:04d}" for row in range(30, 40)]
    assert len(found["u0001"]) == 38 and len(found["u0002"]) == 39
    assert np.isfinite(frame["score"].to_numpy()).all()
    assert shop.histories(np.array([0])).items.shape == (1, 200)


def test_events_that_all_share_one_moment():
    known = events(
        [(user, (user * step) % 40, 0) for user in range(1, 30) for step in (1, 3, 7)], n_users=30, n_items=40
    )
    for seen in ("allow", "exclude"):
        shop = recommender(known=known, seen=seen)
        found = shop.recommend_batch(shop.histories(np.arange(30)), 12)
        check(found, 30, 12)
        bought = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
        if seen == "exclude":
            assert not bought & set(zip(found.user.tolist(), found.item.tolist(), strict=True))


def test_nobody_asked_for_is_nobody_answered():
    found = SHOP["allow"].recommend_batch(histories([]), 5)
    assert len(found.user) == 0 and SHOP["allow"].recommend([], 5).height == 0


def test_long_histories_are_barred_in_full():
    rows = [(0, day % 30, day) for day in range(300)] + [(1, 35, 299)]
    shop = recommender(known=events(rows, n_users=2, n_items=40), seen="exclude")
    found = shop.recommend(["u0000"], 40)["product_id"].to_list()
    assert sorted(found) == [f"p{row:04d}" for row in range(30, 40)]


def test_the_line_needs_events_and_a_blend_for_its_sources():
    with pytest.raises(DataContractError, match="no events"):
        recommender(known=interactions().where(np.zeros(len(interactions()), bool)))
    with pytest.raises(ModelFolderError, match="train ranker"):
        recommender(blend=rank.equal_weights(["popular"]))


def test_now_is_a_second_after_the_last_event():
    known = events([(0, 1, 5)], n_users=1, n_items=40)
    assert recommender(known=known).now == START + 5 * DAY + 1


def test_purchases_are_known_by_row_and_histories_by_themselves():
    shop = SHOP["exclude"]
    bought = purchase_filters.purchased_pairs(histories([[3]]), shop.interactions)
    assert bought.tolist() == [3] and isinstance(shop.users, IdMap)


def test_what_was_bought_before_is_said_to_be():
    known = interactions()
    made = recommender(known=known)
    frame = made.recommend([f"u{row:04d}" for row in range(known.n_users)], 12)
    bought = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
    again = [
        reason
        for user, product, reason in frame.select("user_id", "product_id", "reason").iter_rows()
        if (int(user[1:]), int(product[1:])) in bought
    ]
    assert again and set(again) == {"you bought this before"}
