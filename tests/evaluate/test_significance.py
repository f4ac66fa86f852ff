from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluate import significance as intervals


@given(values=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=30, max_size=60), seed=st.integers(0, 20))
def test_the_interval_holds_the_mean_and_is_repeatable(values, seed):
    array = np.array(values)
    low, high = intervals.bootstrap_interval(array, samples=500, seed=seed)
    assert low <= array.mean() <= high
    assert (low, high) == intervals.bootstrap_interval(array, samples=500, seed=seed)


def test_the_interval_agrees_with_the_normal_one():
    array = np.random.default_rng(0).random(2000)
    low, high = intervals.bootstrap_interval(array, samples=4000)
    half = 1.96 * array.std() / math.sqrt(2000)
    assert low == pytest.approx(array.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(array.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize(("values", "samples"), [(np.zeros(0), 10), (np.ones(3), 0), (np.full(3, np.nan), 10)])
def test_without_users_values_or_samples_there_is_no_interval(values, samples):
    assert all(math.isnan(bound) for bound in intervals.bootstrap_interval(values, samples=samples))


def test_a_user_without_a_value_is_left_out_of_the_mean():
    with_gaps = np.array([1.0, 1.0, np.nan, 1.0, np.nan])
    assert intervals.bootstrap_interval(with_gaps, samples=50) == (1.0, 1.0)


def test_all_columns_are_resampled_by_the_same_users(monkeypatch):
    values = np.random.default_rng(1).random((40, 2))
    values[:, 1] = 1 - values[:, 0]
    whole = intervals.bootstrap_means(values, samples=100, seed=3)
    np.testing.assert_allclose(whole.sum(axis=1), 1)
    monkeypatch.setattr(intervals, "_MAX_CELLS", 120)  # three resamples at a time: the draws are the same
    np.testing.assert_allclose(intervals.bootstrap_means(values, samples=100, seed=3), whole)


def test_the_sign_flip_p_is_that_of_all_flips():
    apart = np.array([0.3, -0.1, 0.4, 0.2, 0.0, 0.1])
    flips = [abs(sum(sign * value for sign, value in zip(signs, apart, strict=True))) for signs in
             itertools.product([1, -1], repeat=6)]  # fmt: skip
    exact = np.mean([flip >= abs(apart.sum()) - 1e-12 for flip in flips])
    found = intervals.sign_flip_test(apart[:, None], permutations=20_000, seed=1)[0]
    assert found == pytest.approx(exact, abs=0.01)


def test_a_clear_difference_is_seen_and_none_is_not():
    g = np.random.default_rng(0)
    other = g.random(300)
    worse, same = other - 0.1 * g.random(300), other + g.normal(0, 0.05, 300)
    clear, unclear = intervals.paired_test(other, np.stack([worse, same], axis=1), samples=999)
    assert 0 < clear.low < clear.difference < clear.high and clear.p_bootstrap < 0.01 and clear.p_signflip < 0.001
    assert unclear.low < 0 < unclear.high and unclear.p_bootstrap > 0.05 and unclear.p_signflip > 0.05


def test_a_system_does_not_differ_from_itself():
    (found,) = intervals.paired_test(np.ones(20), np.ones((20, 1)), samples=100)
    assert (found.difference, found.low, found.high, found.p_bootstrap, found.p_signflip) == (0, 0, 0, 1, 1)


def test_the_p_values_are_uniform_when_nothing_differs():
    g = np.random.default_rng(5)
    apart = g.normal(size=(60, 400))
    found = intervals.paired_test(np.zeros(60), -apart, samples=200)
    for name in ("p_bootstrap", "p_signflip"):
        small = np.mean([getattr(one, name) < 0.1 for one in found])
        assert 0.05 < small < 0.16, name


def test_without_users_or_samples_there_is_no_p():
    (nobody,) = intervals.paired_test(np.zeros(0), np.zeros((0, 1)), samples=10)
    assert math.isnan(nobody.difference) and math.isnan(nobody.p_signflip)
    (unasked,) = intervals.paired_test(np.ones(3), np.zeros((3, 1)), samples=0)
    assert unasked.difference == 1 and math.isnan(unasked.low) and math.isnan(unasked.p_bootstrap)
    assert math.isnan(unasked.p_signflip)
