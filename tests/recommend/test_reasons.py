from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import sparse

from recsys.recommend.reasons import ReasonGenerator, co_purchase_counts
from recsys.recommend.recommendations import Recommendations, explaining_event_types
from tests.recommend.shops import DAY, START, catalogue, events, histories

SOURCES = ["sequence", "repurchase", "co_purchase", "popular", "content"]
TITLES = ["Hat", "Coat", "Shoe", "Shirt", "Scarf", "Belt"]
ROWS = [(u, i, 0) for u in range(3) for i in (0, 1)] + [(4, 1, 0), (4, 2, 0), (5, 1, 0, 2), (5, 3, 0, 2)]
ROWS += [(0, 4, 20), (1, 4, 20), (5, 4, 20), (2, 2, 20)]
VIEWS = [(user, item, 0, 2) for user in range(3) for item in (1, 3)] + [(4, 1, 0, 2), (4, 2, 0, 2)]
PURCHASE, VIEW = 0, 2


def said(source, *, item=2, because=-1, kind=-1, days=7, rows=ROWS, min_customers=3):
    known = events(rows, n_users=6, n_items=6)
    pairs = sparse.csr_matrix(1 - np.eye(6, dtype=np.float32))
    goods = catalogue(6, titles=TITLES)
    reasons = ReasonGenerator(
        goods,
        known,
        sources=SOURCES,
        now=START + 21 * DAY,
        popular_days=days,
        co_purchase_pairs=pairs,
        min_customers=min_customers,
    )
    one = [np.array([value]) for value in (0, 1, item, 0.0, [*SOURCES, "fill"].index(source), because, kind)]
    return reasons.explain(Recommendations(*one))[0]


@pytest.mark.parametrize(
    ("expected", "asked"),
    [
        ("because you bought Coat", {"source": "content", "because": 1, "kind": PURCHASE}),
        ("because you looked at Coat", {"source": "content", "because": 1, "kind": VIEW}),
        ("often bought together with Coat", {"source": "co_purchase", "item": 0, "because": 1, "kind": PURCHASE}),
        ("from our range", {"source": "co_purchase", "item": 2, "because": 1, "kind": PURCHASE}),
        ("bought together with Coat", {"source": "co_purchase", "item": 2, "because": 1, "min_customers": 1}),
        ("from our range", {"source": "co_purchase", "item": 3, "because": 1, "kind": VIEW}),
        ("often chosen together with Coat", {"source": "co_purchase", "item": 3, "because": 1, "rows": VIEWS}),
        ("from our range", {"source": "co_purchase", "item": 2, "because": 1, "rows": VIEWS}),
        ("you bought this before", {"source": "repurchase", "because": 2, "kind": PURCHASE}),
        ("fits what you bought lately", {"source": "sequence", "kind": PURCHASE}),
        ("fits what you looked at lately", {"source": "sequence", "kind": VIEW}),
        ("fits your past activity", {"source": "sequence"}),
        ("popular this week", {"source": "popular", "item": 4}),
        ("popular these days", {"source": "popular", "item": 4, "days": 10}),
        ("chosen by other customers", {"source": "popular", "item": 1}),
        ("from our range", {"source": "popular", "item": 2}),  # two customers
        ("from our range", {"source": "fill", "item": 5}),
    ],
)
def test_the_words_say_what_is_so(expected, asked):
    assert said(**asked) == expected


def test_customers_who_bought_both_are_counted_once_for_every_pair_that_may_be_told():
    g = np.random.default_rng(3)
    n, people = 2500, 300  # more products than are counted at a time
    rows = [
        (int(u), int(i), int(d), int(k))
        for u, i, d, k in zip(*g.integers(0, (people, n, 9, 3), (9000, 4)).T, strict=True)
    ]
    rows += [(0, 5, 1, 0), (0, 7, 1, 0), (0, 7, 2, 0)]
    asked = sparse.random(n, n, 0.02, "csr", np.float32, rng=g)
    asked[5, 7] = 0.5
    known = events(rows, n_users=people, n_items=n)
    bought = [set(known.user[(known.item == item) & (known.event_type == PURCHASE)].tolist()) for item in range(n)]
    found = co_purchase_counts(known, asked)
    where = asked.tocoo()
    expected = [len(bought[a] & bought[b]) for a, b in zip(where.row, where.col, strict=True)]
    assert np.asarray(found[where.row, where.col]).ravel().tolist() == expected
    assert found[5, 7] >= 1 and max(expected) >= 1 and found.nnz == np.count_nonzero(expected)


def test_without_pairs_nothing_is_told_of_them():
    known = events(ROWS, n_users=6, n_items=6)
    reasons = ReasonGenerator(catalogue(6), known, sources=["popular"], now=START + 21 * DAY, popular_days=7)
    one = [np.array([value]) for value in (0, 1, 4, 0.0, 0, -1, -1)]
    assert reasons.explain(Recommendations(*one)) == ["popular this week"]


def test_popular_is_the_upper_quarter_of_what_was_chosen_in_the_last_days():
    rows = [(user, item, 20) for item in range(8) for user in range(3 + (item < 2))]
    known = events(rows, n_users=6, n_items=9)
    reasons = ReasonGenerator(catalogue(9), known, sources=["popular"], now=START + 21 * DAY, popular_days=7)
    lists = [np.array(column) for column in ([0] * 9, range(1, 10), range(9), [0.0] * 9, [0] * 9, [-1] * 9, [-1] * 9)]
    said = reasons.explain(Recommendations(*lists))
    assert said == ["popular this week"] * 2 + ["chosen by other customers"] * 6 + ["from our range"]


def test_lately_is_what_was_done_since():
    users = histories([[1, 2]], kinds=[[0, 2]])
    times = np.array([[START, START + 30 * DAY]])
    users = dataclasses.replace(users, times=times)
    for since, expected in ((0, 0), (START + DAY, 2), (START + 40 * DAY, -1)):
        assert explaining_event_types(users, np.array([0]), np.array([-1]), since=since).tolist() == [expected]
    assert explaining_event_types(users, np.array([0]), np.array([1]), since=START + DAY).tolist() == [0]


def test_what_the_user_did_with_a_product():
    users = histories([[1, 1, 2, 3], [4], []], kinds=[[0, 2, 2, 5], [1], []])
    user, because = np.array([0, 0, 0, 0, 1, 2]), np.array([1, 2, 3, -1, 4, -1])
    assert explaining_event_types(users, user, because).tolist() == [0, 2, -1, 0, 1, -1]
