from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys.evaluate import metrics
from tests import oracles

cases = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 12), min_size=12, max_size=12), st.lists(st.integers(0, 12), min_size=1, max_size=15)
    ),
    min_size=1,
    max_size=6,
)


@given(cases=cases, k=st.integers(1, 12))
def test_each_metric_equals_the_slow_one(cases, k):
    lists = np.array([items for items, _ in cases])
    targets = [np.unique(wanted) for _, wanted in cases]
    found, size = metrics.hits(lists, targets), metrics.sizes(targets)
    mine = (metrics.hr(found, k), metrics.ndcg(found, size, k), metrics.average_precision(found, size, k))
    for row, (items, wanted) in enumerate(cases):
        assert [values[row] for values in mine] == pytest.approx(oracles.metrics(items, set(wanted), k))


@given(seed=st.integers(0, 200), k=st.integers(1, 12))
def test_ndcg_equals_scikit_learn(seed, k):
    g = np.random.default_rng(seed)
    order = np.array([g.permutation(20) for _ in range(5)])
    targets = [np.sort(g.choice(20, int(g.integers(1, 8)), replace=False)) for _ in range(5)]
    relevant = np.array([np.isin(np.arange(20), wanted) for wanted in targets], float)
    score = np.zeros((5, 20))
    np.put_along_axis(score, order, np.arange(20, 0, -1)[None].astype(float), axis=1)
    found = metrics.hits(order[:, :12], targets)
    mine = metrics.ndcg(found, metrics.sizes(targets), k)
    for row in range(5):
        assert mine[row] == pytest.approx(ndcg_score(relevant[row : row + 1], score[row : row + 1], k=k))


def test_a_perfect_list_is_one_and_an_empty_one_zero():
    targets = [np.array([4, 2]), np.array([1])]
    found = metrics.hits(np.array([[2, 4, -1], [-1, -1, -1]]), targets)
    size = metrics.sizes(targets)
    for values in (metrics.hr(found, 3), metrics.ndcg(found, size, 3), metrics.average_precision(found, size, 3)):
        assert values.tolist() == [1.0, 0.0]


@given(values=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=30, max_size=60), seed=st.integers(0, 20))
def test_the_interval_holds_the_mean_and_is_repeatable(values, seed):
    array = np.array(values)
    low, high = metrics.interval(array, samples=500, seed=seed)
    assert low <= array.mean() <= high
    assert (low, high) == metrics.interval(array, samples=500, seed=seed)


def test_the_interval_agrees_with_the_normal_one():
    array = np.random.default_rng(0).random(2000)
    low, high = metrics.interval(array, samples=4000)
    half = 1.96 * array.std() / math.sqrt(2000)
    assert low == pytest.approx(array.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(array.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize(("values", "samples"), [(np.zeros(0), 10), (np.ones(3), 0)])
def test_without_users_or_samples_there_is_no_interval(values, samples):
    assert all(math.isnan(bound) for bound in metrics.interval(values, samples=samples))
