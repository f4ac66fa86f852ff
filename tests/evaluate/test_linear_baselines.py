from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recsys.errors import DataContractError
from recsys.evaluate import baselines
from recsys.evaluate import linear_baselines as linear
from tests import oracles
from tests.recommend.shops import events, histories, interactions

N = 12
KNOWN = interactions(users=30, items=N, days=20)
BASKETS = [set(KNOWN.item[KNOWN.starts[u] : KNOWN.starts[u + 1]].tolist()) for u in range(KNOWN.n_users)]


def board(users=24, items=20, *, left_out=((0, 4), (1, 5))):
    """Even users bought all even products, odd ones all odd ones, but for what is left out."""
    rows = [(u, i, i) for u in range(users) for i in range(items) if u % 2 == i % 2 and (u, i) not in left_out]
    return events(rows, n_users=users, n_items=items)


@given(given=st.lists(st.integers(0, N - 1), min_size=1, max_size=4, unique=True))
def test_ease_is_the_ridge_regression_of_each_product_on_the_others(given):
    weights = oracles.ease_by_ridge(BASKETS, N, 5.0)
    bought = [item for item in range(N) if any(item in basket for basket in BASKETS)]
    found = linear.ease(KNOWN, regularization=5.0, decay=1.0)(histories([given]))[0]
    expected = sum(weights[item] for item in given if item in bought)
    np.testing.assert_allclose(found, np.where(np.isin(np.arange(N), bought), expected, 0), atol=1e-4)


def test_ease_knows_the_most_bought_products_alone():
    known = events([(u, i, 0) for u in range(6) for i in range(4) if u >= i], n_users=6, n_items=5)
    assert linear.select_ease_products(known, max_products=2).tolist() == [0, 1]
    assert linear.select_ease_products(known, max_products=9).tolist() == [0, 1, 2, 3]
    found = linear.ease(known, max_products=2)(histories([[0], [3]]))
    assert found[0, 1] > 0 and not found[0, 2:].any() and not found[1].any()


def test_without_purchases_ease_and_als_say_nothing():
    views = events([(0, 1, 0, 2)], n_users=1, n_items=3)
    assert not linear.ease(views)(histories([[1]])).any()
    assert not linear.als(views)(histories([[1]])).any()


@pytest.mark.parametrize("block", [3, 1024])
def test_the_inverse_is_the_inverse(monkeypatch, block):
    monkeypatch.setattr(linear, "_TILE_SIZE", block)
    x = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    gram = x.T @ x + np.eye(8, dtype=np.float32)
    np.testing.assert_allclose(linear.invert(gram.copy()), np.linalg.inv(gram), atol=1e-5)


def test_a_matrix_that_cannot_be_inverted_is_said_so():
    with pytest.raises(DataContractError, match="regularization"):
        linear.invert(np.array([[1, 2], [2, 1]], np.float32))


@given(seed=st.integers(0, 30))
def test_conjugate_gradients_reach_the_normal_equations(seed):
    g = np.random.default_rng(seed)
    other = g.normal(size=(N, 5)).astype(np.float32)
    pairs = sparse.csr_matrix([[float(item in basket) for item in range(N)] for basket in BASKETS])
    start = g.normal(size=(len(BASKETS), 5)).astype(np.float32)
    found = linear.conjugate_gradient(pairs, other, initial=start, alpha=4.0, regularization=0.5, steps=25)
    for row, basket in enumerate(BASKETS):
        expected = oracles.least_squares(basket, other.astype(float), 4.0, 0.5) if basket else np.zeros(5)
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


@pytest.mark.parametrize("model", [linear.als, linear.ease, baselines.item_knn])
def test_on_a_checkerboard_the_squares_of_ones_colour_come_first(model):
    scores = model(board())(histories([[0, 2, 6], [1, 3, 7]]))
    for row in range(2):
        own = np.arange(20) % 2 == row
        assert scores[row, own].min() > scores[row, ~own].max()


def test_als_fills_the_holes_of_the_board_and_is_repeatable():
    asked = histories([[8, 10, 12], [9, 11, 13]])
    one, other = (linear.als(board(), factors=2, seed=3)(asked) for _ in range(2))
    assert np.array_equal(one, other)
    # one user has not bought product 4, one has not bought product 5: both are as good as sure to
    assert one[0, 4] == pytest.approx(one[0, 2], abs=0.1) and one[1, 5] == pytest.approx(one[1, 3], abs=0.1)
    assert one[0, 4] > 0.8 and abs(one[0, 5]) < 0.1


def test_als_says_nothing_of_products_nobody_bought_and_to_users_without_history():
    known = events([(u, u % 2, 0) for u in range(6)] + [(u, 2, 1) for u in range(6)], n_users=6, n_items=5)
    found = linear.als(known, factors=4)(histories([[0], []]))
    assert not found[0, 3:].any() and not found[1].any() and found[0, 2] > 0
