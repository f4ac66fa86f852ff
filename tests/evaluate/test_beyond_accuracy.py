from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import pairwise

from recsys.evaluate import beyond_accuracy as shape
from tests import oracles
from tests.recommend.shops import catalogue, vectors

N = 9
some_lists = st.lists(
    st.lists(st.integers(0, N - 1), max_size=6, unique=True).map(lambda items: items + [-1] * (6 - len(items))),
    min_size=1,
    max_size=5,
)
some_histories = st.lists(st.integers(-1, N - 1), min_size=8, max_size=8)


@given(lists=some_lists)
def test_diversity_equals_the_slow_one_for_dense_and_sparse_content(lists):
    content = vectors(N)
    content[3] = 0
    expected = [oracles.diversity(items, content.astype(float)) for items in lists]
    for held in (content, sparse.csr_matrix(content)):
        np.testing.assert_allclose(shape.diversity(np.array(lists), held), expected, atol=1e-5)


def test_diversity_is_one_minus_scikit_learns_mean_cosine():
    content = vectors(N)
    near = pairwise.cosine_similarity(content[[1, 4, 7]])
    expected = 1 - near[np.triu_indices(3, 1)].mean()
    assert shape.diversity(np.array([[1, 4, 7]]), content)[0] == pytest.approx(expected, abs=1e-6)


@given(lists=some_lists, history=some_histories, seed=st.integers(0, 20))
def test_calibration_equals_the_slow_one(lists, history, seed):
    groups = np.random.default_rng(seed).integers(-1, 3, N)
    found = shape.calibration(np.array(lists), np.array([history] * len(lists)), groups)
    expected = [oracles.calibration(items, history, groups.tolist()) for items in lists]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.isnan(found).all() or (found >= 0).all()


def test_the_same_mix_is_calibrated_and_another_is_not():
    groups = np.array([0, 0, 1, 1, -1, -1, -1, -1, -1])
    own = np.array([[0, 1, 2, 3]] * 3)
    found = shape.calibration(np.array([[0, 2], [0, 1], [4, 5]]), own, groups)
    assert found[0] == pytest.approx(0) and found[1] > 1
    assert found[2] == pytest.approx(math.log(100))  # nothing of a known group: as far off as alpha lets it be
    assert np.isnan(shape.calibration(np.array([[0, 2]]), np.array([[-1, 4]]), groups)).all()
    assert np.isnan(shape.calibration(np.array([[0, 2]]), own[:1], np.full(N, -1))).all()


def test_novelty_is_the_mean_surprise():
    counts = np.array([6, 1, 0])
    surprise = [-math.log2((count + 1) / 10) for count in counts]
    found = shape.novelty(np.array([[0, 2], [1, -1], [-1, -1]]), counts)
    assert found[:2] == pytest.approx([(surprise[0] + surprise[2]) / 2, surprise[1]])
    assert math.isnan(found[2])


@given(lists=some_lists)
def test_gini_is_the_mean_difference_and_coverage_the_share(lists):
    array, sellable = np.array(lists), np.ones(N, bool)
    counts = np.bincount(array[array >= 0], minlength=N)
    assert shape.coverage(array, sellable) == pytest.approx((counts > 0).mean())
    if counts.sum():
        assert shape.gini(array, sellable) == pytest.approx(oracles.gini(counts.tolist()))
    else:
        assert math.isnan(shape.gini(array, sellable))


def test_exposure_is_even_or_of_one_product():
    sellable = np.array([True, True, True, True, False])
    assert shape.gini(np.array([[0, 1, 2, 3]]), sellable) == pytest.approx(0)
    assert shape.gini(np.array([[0], [0]]), sellable) == pytest.approx(0.75)  # (n - 1) / n


def test_categories_and_prices_become_groups():
    shop = catalogue(6)
    frame = shop.frame.with_columns(
        pl.Series("category", ["b", None, "a", "b", "", "a"]),
        pl.Series("price", [1.0, 2.0, 1.0, None, 100.0, 300.0]),
        pl.Series("currency", ["EUR", "EUR", "EUR", "EUR", "JPY", "JPY"]),
    )
    priced = dataclasses.replace(shop, frame=frame)
    assert shape.category_codes(priced).tolist() == [1, -1, 0, 1, -1, 0]
    # each currency by itself; equal prices together; no price, no group
    assert shape.price_deciles(priced).tolist() == [0, 6, 0, -1, 0, 5]
    assert shape.category_codes(shop).tolist() == shape.price_deciles(shop).tolist() == [-1] * 6
