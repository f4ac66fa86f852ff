"""The users most likely to want a product, against the lists of the same recommender."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.recommend import audience as audience_module
from recsys.recommend import recommender as line
from recsys.recommend.audience import USER_VECTOR_REASON, rank_audience
from recsys.recommend.candidates.source import UserBatch
from tests.recommend.ruled import N, goods, shop
from tests.recommend.shops import events

SHOP = shop(candidates=8)
EVERYBODY = np.arange(60)


def asked(recommender, item, k=60):
    return rank_audience(recommender, item, users=np.arange(recommender.interactions.n_users), k=k)


def shares(recommender, item):
    """Share of the product in the softmax of each user's candidates, one user after the other."""
    out = {}
    for start in range(0, 60, line.USER_BATCH_SIZE):
        found = recommender.score_candidates(recommender.histories(EVERYBODY[start : start + line.USER_BATCH_SIZE]), 1)
        for at in range(len(found.histories)):
            mine = found.pairs.user == at
            score = found.score[mine].astype(np.float64)
            own = score[found.pairs.item[mine] == item]
            if len(own):
                out[recommender.users.texts[start + at]] = float(np.exp(own[0]) / np.exp(score).sum())
    return out


@pytest.mark.parametrize("item", [0, 1, 17, 39])
@pytest.mark.parametrize("block", [7, 512])
def test_scores_are_the_share_in_the_softmax(item, block, monkeypatch):
    monkeypatch.setattr(line, "USER_BATCH_SIZE", block)
    monkeypatch.setattr(audience_module, "USER_BATCH_SIZE", block)
    frame, expected = asked(SHOP, item), shares(SHOP, item)
    assert frame["rank"].to_list() == list(range(1, frame.height + 1))
    order = sorted(expected, key=lambda name: (-expected[name], name))
    proposed = frame.filter(frame["score"] > 0)
    assert proposed["user_id"].to_list() == order
    for row in proposed.iter_rows(named=True):
        assert row["score"] == pytest.approx(expected[row["user_id"]], rel=1e-9)
    assert frame["score"].is_sorted(descending=True)
    rest = frame.filter(frame["score"] <= 0)
    assert (
        set(rest["reason"].to_list()) <= {USER_VECTOR_REASON} and USER_VECTOR_REASON not in proposed["reason"].to_list()
    )
    # everybody with a history comes, whoever may get it
    barred = {name for name in SHOP.users.texts if name not in frame["user_id"].to_list()}
    known = SHOP.interactions
    for name in barred:
        own = known.item[known.user == SHOP.users.rows([name])[0]]
        assert not len(own) or item in own


def test_the_best_are_those_of_the_whole():
    assert asked(SHOP, 17, 5).equals(asked(SHOP, 17).head(5))
    taste = asked(SHOP, 39)
    within = taste.filter(taste["reason"] == USER_VECTOR_REASON)
    assert within.height and asked(SHOP, 39, taste.height - 2).equals(taste.head(taste.height - 2))
    rows = SHOP.users.rows(within["user_id"].to_list())
    source = SHOP.sources["sequence"]
    histories = SHOP.histories(rows)
    inner = source.encode_users(UserBatch(histories, SHOP.now)) @ source.item_vectors[39]
    assert (np.diff(inner) <= 1e-6).all()
    np.testing.assert_allclose(within["score"].to_numpy(), -1 / (1 + np.exp(inner)), rtol=1e-5)


def test_who_may_not_get_it_is_left_out():
    excluding = shop(rules={"seen": "exclude"})
    known = excluding.interactions
    owners = {excluding.users.texts[user] for user in known.user[known.item == 0]}
    found = set(asked(excluding, 0)["user_id"].to_list())
    assert owners and not owners & found
    again = set(asked(shop(rules={"seen": "allow"}), 0)["user_id"].to_list())
    assert owners <= again
    banded = asked(shop(rules={"price_factor": 1.05, "seen": "exclude"}), 39)
    assert banded.height < asked(excluding, 39).height


def test_a_product_nobody_may_get_has_no_audience_and_it_is_said(caplog):
    gone = shop(catalogue=goods(sellable=np.arange(N) != 5))
    frame = asked(gone, 5)
    assert frame.height == 0 and frame.columns == ["user_id", "rank", "score", "reason"]
    assert "product 'p0005' is not available" in caplog.text and "[rules] available_only" in caplog.text
    assert asked(shop(rules={"exclude": ["p0007"], "price_max": 16}), 7).height == 0
    assert "by [rules] exclude, price_max" in caplog.text
    caplog.clear()
    allowed = asked(shop(catalogue=goods(sellable=np.arange(N) != 5), rules={"available_only": False}), 5)
    assert allowed.height and "not available" in caplog.text


def test_without_the_sequence_source_only_who_is_offered_it_comes():
    plain = shop(sources=["co_purchase", "repurchase"])
    frame = asked(plain, 3)
    assert frame.height and (frame["score"] > 0).all()
    assert asked(shop(sources=["repurchase"]), 39).height <= 1


def test_cold_users_all_have_the_same_share():
    known = events([(0, 3, 0), (0, 4, 0)], n_users=5, n_items=N)
    frame = asked(shop(known=known, candidates=5), 3)
    cold = frame.filter(frame["user_id"] != "u0000")
    assert cold["user_id"].to_list() == ["u0001", "u0002", "u0003", "u0004"], "ties by user"
    assert cold["score"].n_unique() == 1 and cold["score"][0] == pytest.approx(1 / 5, abs=0.2)


def test_one_product_and_one_moment():
    known = events([(0, 0, 0), (1, 0, 0, 2)], n_users=3, n_items=1)
    frame = asked(shop(known=known, catalogue=goods(1)), 0)
    assert frame["user_id"].to_list() == ["u0000", "u0001", "u0002"] and (frame["score"] == 1).all()


def test_progress_is_told_to_the_end():
    said = []
    rank_audience(SHOP, 0, users=EVERYBODY, k=3, progress=lambda done, of: said.append((done, of)))
    assert said[-1] == (60, 60)
    assert rank_audience(SHOP, 0, users=np.zeros(0, np.int64), k=3).height == 0
