from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluate import baselines
from tests import oracles
from tests.recommend.shops import DAY, START, catalogue, events, histories, interactions

N = 12
KNOWN = interactions(users=30, items=N, days=20)


def lists(scorer, given, k=12, *, exclude_seen=False, allowed=None):
    found = baselines.to_ranked_lists(scorer, exclude_purchased=exclude_seen, allowed=allowed, batch_size=2)(
        histories(given), k
    )
    return [[item for item in row if item >= 0] for row in found.tolist()]


def test_popular_lists_by_count_in_the_days_that_count():
    rows = [(0, 5, 0), (1, 5, 1), (2, 5, 2), (0, 3, 9), (1, 3, 9), (2, 7, 9), (2, 8, 9, 2)]
    known = events(rows, n_users=3, n_items=N)
    assert lists(baselines.popularity(known), [[], [5]]) == [[5, 3, 7]] * 2
    assert lists(baselines.popularity(known, days=2, now=START + 10 * DAY), [[]]) == [[3, 7]]


def test_repurchase_lists_the_latest_first():
    assert lists(baselines.repurchase(N), [[3, 1, 3, 2], []]) == [[2, 3, 1], []]


@given(st.lists(st.lists(st.integers(0, N - 1), max_size=6), min_size=1, max_size=5))
def test_item_item_sums_the_slow_cosine_over_the_fading_history(given):
    baskets = [set(KNOWN.item[KNOWN.starts[u] : KNOWN.starts[u + 1]].tolist()) for u in range(KNOWN.n_users)]
    counts = [sum(item in basket for basket in baskets) for item in range(N)]
    found = baselines.item_knn(KNOWN, shrinkage=10, decay=0.8)(histories(given))
    for row, own in enumerate(given):
        expected = np.zeros(N)
        for back, item in enumerate(dict.fromkeys(reversed(own))):
            for other in range(N):
                if other != item:
                    shared = sum(item in basket and other in basket for basket in baskets)
                    expected[other] += 0.8**back * shared / (np.sqrt(counts[item] * counts[other]) + 10)
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_tfidf_lists_what_shares_rare_words():
    shop = catalogue(4, titles=["red hat zzz", "red hat", "blue zzz", "green coat"])
    shop = type(shop)(shop.ids, shop.frame.select("product_id", "title"), shop.sellable, shop.images)
    assert lists(baselines.tfidf(shop), [[1], [2]]) == [[1, 0], [2, 0]]
    assert lists(baselines.tfidf(shop), [[1]], exclude_seen=True) == [[0]]


def test_stacked_puts_an_earlier_list_before_a_later_one():
    again = baselines.repurchase(N)
    popular = baselines.popularity(events([(0, item, 0) for item in (1, 2, 2)], n_users=1, n_items=N))
    assert lists(baselines.chain(again, popular), [[9, 2], []]) == [[2, 9, 1], [2, 1]]


def test_sums_shares_and_logarithms():
    one = lambda _: np.array([[1.0, 2.0, 0.0]])  # noqa: E731
    assert baselines.normalize_scores(one)(None).tolist() == [[0.5, 1.0, 0.0]]
    assert baselines.normalize_scores(lambda _: np.zeros((1, 2)))(None).tolist() == [[0, 0]]
    np.testing.assert_allclose(baselines.log1p_scores(one)(None), np.log([[2, 3, 1]]))
    np.testing.assert_allclose(baselines.weighted_sum([(2, one), (0.5, one)])(None), [[2.5, 5, 0]])


@given(seed=st.integers(0, 300), k=st.integers(1, 14))
def test_lists_are_sorted_with_ties_by_the_lower_row(seed, k):
    g = np.random.default_rng(seed)
    scores = g.integers(-1, 3, size=(3, N)).astype(float)
    allowed = g.random(N) < 0.7
    found = lists(lambda h: scores[: len(h)].copy(), [[1]] * 2, k, exclude_seen=True, allowed=allowed)
    for row in range(2):
        may = [item for item in range(N) if scores[row, item] > 0 and allowed[item] and item != 1]
        best = sorted((-scores[row, item], item) for item in may)
        assert found[row] == [item for _, item in best[:k]]


def test_the_slow_oracle_and_the_plain_one_differ_by_their_users_weight():
    """The room's own item-item weighs users by their basket; the baseline does not, and is tested by itself above."""
    baskets = [KNOWN.item[KNOWN.starts[u] : KNOWN.starts[u + 1]].tolist() for u in range(KNOWN.n_users)]
    ours = np.array(oracles.item_item(baskets, N, 10, 0.5))
    plain = baselines.item_knn(KNOWN, shrinkage=10, decay=1)(histories([[item] for item in range(N)]))
    assert ((plain > 0) == (ours > 0)).all() and not np.allclose(plain, ours)
    assert plain[0, 0] == pytest.approx(0)


@given(seed=st.integers(0, 300), k=st.integers(1, 4))
def test_lists_are_the_same_whether_much_or_little_is_above_zero(seed, k):
    """Rows with much above 0 are cut at the k-th best score first, ties included."""
    g = np.random.default_rng(seed)
    scores = np.zeros((3, 60))
    scores[0] = g.integers(1, 5, 60)  # crowded, with ties
    scores[1, g.choice(60, 3, replace=False)] = 1.0
    found = baselines.to_ranked_lists(lambda _: scores.copy(), exclude_purchased=False)(histories([[]] * 3), k)
    for row in range(3):
        best = sorted((-scores[row, item], item) for item in range(60) if scores[row, item] > 0)[:k]
        assert [item for item in found[row].tolist() if item >= 0] == [item for _, item in best]


def test_what_was_looked_at_and_not_bought_may_be_listed():
    looked = histories([[1, 2, 3]], kinds=[[2, 0, 1]])
    popular = baselines.popularity(events([(0, item, 0) for item in range(5)], n_users=1, n_items=5))
    assert baselines.to_ranked_lists(popular, exclude_purchased=True)(looked, 5).tolist() == [[0, 1, 3, 4, -1]]
