from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recsys.data.interactions import DEFAULT_TYPE_WEIGHTS
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.item_knn import (
    build_user_profile,
    empty_neighbours,
    lookup,
    retrieve_neighbours,
    score_pairs,
    sum_and_top_k,
    top_k,
    top_k_per_row,
)
from tests import oracles
from tests.recommend.shops import histories

lists = st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=9), min_size=1, max_size=5)


@given(events=lists, last=st.integers(1, 5))
def test_taste_is_the_newest_of_each_product_fading_by_products_back(events, last):
    users = histories([[i for i, _ in own] for own in events], kinds=[[k for _, k in own] for own in events])
    signs = build_user_profile(users, max_items=last, decay=0.5)
    assert (np.diff(signs.user) >= 0).all()
    for user in range(len(events)):
        expected = oracles.taste(
            users.items[user], users.event_types[user], last, 0.5, list(DEFAULT_TYPE_WEIGHTS), RETURN_CODE
        )
        mine = signs.user == user
        found = {
            item: (weight, back)
            for item, weight, back in zip(signs.item[mine], signs.weight[mine], signs.n_newer[mine], strict=True)
        }
        assert found.keys() == expected.keys()
        for item, (weight, back) in expected.items():
            assert found[item] == (pytest.approx(weight), back)


@given(events=lists, k=st.integers(1, 8), seed=st.integers(0, 50))
def test_spread_sums_along_neighbours_and_names_the_largest_part(events, k, seed):
    g = np.random.default_rng(seed)
    dense = g.integers(0, 3, size=(7, 7)) * (1 - np.eye(7, dtype=np.int64))
    users = histories([[i for i, _ in own] for own in events])
    signs = build_user_profile(users, max_items=4, decay=0.5)
    found = retrieve_neighbours(signs, sparse.csr_matrix(dense.astype(np.float32)), k)
    for user in range(len(events)):
        mine = found.user == user
        own = signs.user == user
        weights = dict(zip(signs.item[own].tolist(), signs.weight[own].tolist(), strict=True))
        expected = oracles.spread(weights, dense.tolist(), k)
        assert found.item[mine].tolist() == [item for item, _, _ in expected]
        assert found.score[mine].tolist() == pytest.approx([score for _, score, _ in expected])
        assert found.source_item[mine].tolist() == [because for _, _, because in expected]


def test_best_keeps_k_by_score_then_row_and_orders_by_row():
    user, item = np.array([0, 0, 1, 1, 1]), np.array([1, 3, 2, 5, 9])
    found = top_k(user, item, np.array([2, 2, 1, 1, 3], np.float32), item + 100, 2)
    assert list(zip(found.user, found.item, found.source_item, strict=True)) == [
        (0, 1, 101),
        (0, 3, 103),
        (1, 2, 102),
        (1, 9, 109),
    ]


def test_nothing_gathers_to_nothing():
    none = np.zeros(0, np.int64)
    assert len(sum_and_top_k(none, none, np.zeros(0, np.float32), none, 3)) == 0


@given(events=lists, seed=st.integers(0, 50))
def test_weighed_is_the_sum_spread_would_give_for_any_pair(events, seed):
    g = np.random.default_rng(seed)
    dense = g.integers(0, 3, size=(7, 7)) * (1 - np.eye(7, dtype=np.int64))
    signs = build_user_profile(histories([[i for i, _ in own] for own in events]), max_items=4, decay=0.5)
    b = len(events)
    user = np.sort(g.integers(b, size=20))
    item = g.integers(7, size=20)
    found = score_pairs(signs, sparse.csr_matrix(dense.astype(np.float32)), b, user, item)
    assert found.dtype == np.float32
    for at in range(20):
        mine = signs.user == user[at]
        weights = dict(zip(signs.item[mine].tolist(), signs.weight[mine].tolist(), strict=True))
        said = {item: score for item, score, _ in oracles.spread(weights, dense.tolist(), 7)}
        assert found[at] == pytest.approx(said.get(int(item[at]), 0))


@given(
    entries=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3)), max_size=20, unique_by=lambda one: one[:2]
    ),
    keep=st.integers(1, 5),
)
def test_strongest_keeps_the_largest_of_each_row_ties_by_lower_column(entries, keep):
    row, column, value = (np.array([one[at] for one in entries], np.int64) for at in range(3))
    found = top_k_per_row(row, column, value.astype(np.float32), 5, k=keep)
    assert found.shape == (5, 5) and found.dtype == np.float32
    expected = np.zeros((5, 5))
    for at in range(5):
        own = sorted((-value, column) for row, column, value in entries if row == at)[:keep]
        for less, other in own:
            expected[at, other] = -less
    np.testing.assert_array_equal(found.toarray(), expected)


@given(held=st.dictionaries(st.integers(0, 9), st.integers(1, 5)), wanted=st.lists(st.integers(0, 12), min_size=1))
def test_looked_up_gives_the_value_or_nothing(held, wanted):
    keys = np.array(sorted(held), np.int64)
    found = lookup(keys, np.array([held[key] for key in sorted(held)], np.float32), np.array(wanted))
    assert found.tolist() == [held.get(key, 0) for key in wanted] and found.dtype == np.float32


def test_nobody_has_neighbours_of_nobody():
    signs = build_user_profile(histories([[1, 2]]), max_items=4, decay=0.5)
    assert empty_neighbours(7).shape == (7, 7) and len(retrieve_neighbours(signs, empty_neighbours(7), 3)) == 0
    assert score_pairs(signs, empty_neighbours(7), 1, np.zeros(3, np.int64), np.arange(3)).tolist() == [0, 0, 0]
