"""Diversity and calibration against slow versions, and reasons that stay true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend.ranking.diversity import DiversityReranker, history_category_shares
from recsys.recommend.rules.list_constraints import MaxPerValue, MinNewProducts, RankedPool, select_greedy
from tests.recommend.ruled import N, shop, whole
from tests.recommend.shops import histories, vectors

CONTENT = vectors(N)
CODES = np.arange(N) % 4 - 1  # -1, 0, 1, 2


def pool_of(b, width, *, seed):
    g = np.random.default_rng(seed)
    item = np.concatenate([np.sort(g.choice(N, width, replace=False)) for _ in range(b)])
    return RankedPool.from_candidates(
        np.repeat(np.arange(b), width), item, g.normal(size=b * width).astype(np.float32), n_users=b
    )


def slow(pool, user, k, *, diversity, calibration, history):
    """One user, straight from the papers: every list with every candidate is judged whole."""
    head = min(5 * k, (pool.row[user] >= 0).sum())
    item, score = pool.item[user][:head].tolist(), pool.score[user][:head].astype(np.float64)
    scale = score.max() - score.min() or 1.0
    relevance = (score - score.min()) / scale
    mix = [CODES[row] for row in history if CODES[row] >= 0]
    wanted = {code: mix.count(code) / len(mix) for code in set(mix)}

    def divergence(rows):
        total = 0.0
        for code, share in wanted.items():
            listed = sum(CODES[row] == code for row in rows) / len(rows)
            total += share * math.log(share / (0.99 * listed + 0.01 * share))
        return total

    chosen = []
    for _ in range(min(k, head)):
        gains = []
        for at, row in enumerate(item):
            if row in chosen:
                continue
            like = max((float(CONTENT[row] @ CONTENT[other]) for other in chosen), default=0.0)
            gain = (1 - diversity - calibration) * relevance[at]
            gains.append((gain - diversity * like - calibration * divergence([*chosen, row]), -at, row))
        best = max(gains)
        assert not chosen or sum(abs(best[0] - gain[0]) < 1e-9 for gain in gains) == 1, "a tie would be no comparison"
        chosen.append(best[2])
    return chosen


@pytest.mark.parametrize(("diversity", "calibration"), [(0.4, 0.0), (1.0, 0.0), (0.0, 0.5), (0.3, 0.3)])
@pytest.mark.parametrize("seed", range(4))
def test_places_are_those_of_the_slow_version(diversity, calibration, seed):
    k, b = 5, 6
    g = np.random.default_rng(seed)
    own = [g.integers(0, N, size).tolist() for size in (9, 3, 0, 1, 20, 5)]
    pool = pool_of(b, 30, seed=seed)
    gain = DiversityReranker(CONTENT, diversity=diversity, calibration=calibration, codes=CODES)
    choice = select_greedy(pool, k, constraints=[], gain=gain.begin(pool, histories(own), k))
    for user in range(b):
        expected = slow(pool, user, k, diversity=diversity, calibration=calibration, history=own[user])
        assert pool.item[user, choice.column[user]].tolist() == expected


def test_caps_and_diversity_hold_together():
    pool = pool_of(4, 30, seed=9)
    gain = DiversityReranker(CONTENT, diversity=0.7).begin(pool, histories([[]] * 4), 4)
    brand = np.arange(N) % 5
    choice = select_greedy(pool, 4, constraints=[MaxPerValue("brand", 1, brand)], gain=gain)
    for user in range(4):
        rows = pool.item[user, choice.column[user]]
        assert len(set((rows % 5).tolist())) == 4 and choice.column[user, 0] == 0


def test_places_that_no_new_product_can_take_are_given_away_as_without_the_rule():
    pool, one = pool_of(3, 20, seed=2), DiversityReranker(CONTENT, diversity=0.6)
    plain, kept = (
        select_greedy(pool, 6, constraints=rules, gain=one.begin(pool, histories([[]] * 3), 6)).column
        for rules in ([], [MinNewProducts(3, np.zeros(N, bool))])
    )
    assert plain.tolist() == kept.tolist() != np.tile(np.arange(6), (3, 1)).tolist()


@given(st.lists(st.lists(st.integers(0, N - 1), max_size=12), min_size=1, max_size=5))
def test_shares_are_those_of_the_history_without_returns(lists):
    kinds = [[5 if row % 7 == 0 else 0 for row in own] for own in lists]
    item = np.tile(np.arange(N), (len(lists), 1))
    found = history_category_shares(histories(lists, kinds=kinds), CODES, item)
    for own, row in zip(lists, found, strict=True):
        mix = [CODES[one] for one in own if one % 7 and CODES[one] >= 0]
        expected = [mix.count(code) / len(mix) if mix and code >= 0 else 0 for code in CODES]
        np.testing.assert_allclose(row, expected)


def test_off_is_off():
    assert DiversityReranker.from_settings(shop().settings, shop().catalogue, CONTENT) is None
    plain, _ = whole(shop())
    off, _ = whole(shop(diversity=0.0, calibration=0.0))
    assert plain.item.tobytes() == off.item.tobytes() and plain.score.tobytes() == off.score.tobytes()


def likeness(found, users, k):
    """Mean cosine within the lists."""
    rows = CONTENT[found.item.reshape(users, k)]
    return float(np.mean([(one @ one.T)[np.triu_indices(k, 1)].mean() for one in rows]))


def test_more_weight_makes_lists_less_alike_and_keeps_the_first_place():
    alike, first = [], []
    for weight in (0.0, 0.4, 0.9):
        found, users = whole(shop(diversity=weight), 6)
        alike.append(likeness(found, len(users), 6))
        first.append(found.item[found.rank == 1].tolist())
    assert alike[0] > alike[1] > alike[2]
    assert first[0] == first[1] == first[2]


def test_calibrated_lists_have_the_mix_of_the_history():
    own = [[0, 4, 8, 1], [2, 6, 10, 14, 18]]
    found = shop(calibration=0.95, rules={"seen": "exclude"}).recommend_batch(histories(own), 8)
    kinds = [np.bincount(found.item[found.user == user] % 4, minlength=4).tolist() for user in (0, 1)]
    assert kinds[0][0] == 6 and kinds[0][1] == 2, "three shoes and a hat in the history"
    assert kinds[1][2] == 5, "all coats that are left"


@pytest.mark.parametrize("more", [{"diversity": 0.8}, {"calibration": 0.8}, {"diversity": 0.4, "calibration": 0.4}])
def test_every_reason_of_a_rearranged_list_is_true(more):
    rules = {"caps": {"brand": 3, "category": 4}, "min_new": 2, "new_days": 3, "price_factor": 3}
    recommender = shop(rules=rules, **more)
    users = list(recommender.users.texts)
    frame = recommender.recommend([*users, "stranger"], 12)
    plain = shop().recommend([*users, "stranger"], 12)
    assert frame["product_id"].to_list() != plain["product_id"].to_list()
    known = recommender.interactions
    titles = dict(zip(recommender.catalogue.ids.texts, recommender.catalogue.frame["title"], strict=True))
    rows = dict(zip(recommender.catalogue.ids.texts, range(N), strict=True))
    bought = {user: set(known.item[known.user == at].tolist()) for at, user in enumerate(users)}
    lately = known.time >= recommender.now - 7 * 86_400
    pairs = known.item[lately] * known.n_users + known.user[lately]
    weekly = np.bincount(np.unique(pairs) // known.n_users, minlength=N)
    ranked = sorted(weekly[weekly > 0].tolist(), reverse=True)
    least = max(3, ranked[-(-len(ranked) // 4)] + 1)
    now_active = set(known.user[known.time >= recommender.now - 28 * 86_400].tolist())
    for row in frame.iter_rows(named=True):
        own, item = bought.get(row["user_id"], set()), rows[row["product_id"]]
        stem, reason = row["reason_product_id"], row["reason"]
        assert stem is None or rows[stem] in own, "the user knows what it stems from"
        shared = sum(item in have and stem is not None and rows[stem] in have for have in bought.values())
        customers = len(set(known.user[known.item == item].tolist()))
        user = users.index(row["user_id"]) if row["user_id"] in users else -1
        truths = {
            "you bought this before": item in own,
            "fits what you bought lately": user in now_active,
            "fits your past activity": bool(own) and user not in now_active,
            f"often bought together with {titles.get(stem)}": shared >= 3,
            f"because you bought {titles.get(stem)}": stem is not None,
            "popular this week": weekly[item] >= least,
            "chosen by other customers": weekly[item] < least and customers >= 3,
            "from our range": customers < 3,
        }
        assert truths[reason], row
