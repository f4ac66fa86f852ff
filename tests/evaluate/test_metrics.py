from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from recsys.evaluate import metrics
from tests import oracles

cases = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 12), min_size=12, max_size=12), st.lists(st.integers(0, 12), min_size=1, max_size=15)
    ),
    min_size=1,
    max_size=6,
)


def judged(cases):
    targets = [np.unique(wanted) for _, wanted in cases]
    return metrics.hit_matrix(np.array([items for items, _ in cases]), targets), metrics.target_counts(targets), targets


@given(cases=cases, k=st.integers(1, 12))
def test_each_metric_equals_the_slow_one(cases, k):
    lists = np.array([items for items, _ in cases])
    targets = [np.unique(wanted) for _, wanted in cases]
    found, size = metrics.hit_matrix(lists, targets), metrics.target_counts(targets)
    mine = (metrics.hit_rate(found, k), metrics.ndcg(found, size, k), metrics.average_precision(found, size, k))
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
    found = metrics.hit_matrix(order[:, :12], targets)
    mine = metrics.ndcg(found, metrics.target_counts(targets), k)
    for row in range(5):
        assert mine[row] == pytest.approx(ndcg_score(relevant[row : row + 1], score[row : row + 1], k=k))


def test_a_perfect_list_is_one_and_an_empty_one_zero():
    targets = [np.array([4, 2]), np.array([1])]
    found = metrics.hit_matrix(np.array([[2, 4, -1], [-1, -1, -1]]), targets)
    size = metrics.target_counts(targets)
    for values in (metrics.hit_rate(found, 3), metrics.ndcg(found, size, 3), metrics.average_precision(found, size, 3)):
        assert values.tolist() == [1.0, 0.0]


@given(cases=cases, k=st.integers(1, 12))
def test_reciprocal_rank_recall_and_precision_equal_the_slow_ones(cases, k):
    found, size, _ = judged(cases)
    mine = (metrics.reciprocal_rank(found, k), metrics.recall(found, size, k), metrics.precision(found, k))
    for row, (items, wanted) in enumerate(cases):
        assert [values[row] for values in mine] == pytest.approx(oracles.more_metrics(items, set(wanted), k))


@given(cases=cases, k=st.integers(1, 12), seed=st.integers(0, 9))
def test_the_mean_debiased_recall_is_the_share_of_worth_found(cases, k, seed):
    counts = np.random.default_rng(seed).integers(0, 50, 13)
    found, _, targets = judged(cases)
    lists = np.array([items for items, _ in cases])
    values = metrics.debiased_recall(lists, found, targets, metrics.inverse_popularity(counts), k=k)
    expected = oracles.debiased_recall([items for items, _ in cases], targets, counts.tolist(), k)
    assert values.mean() == pytest.approx(expected)


def test_among_equally_popular_products_debiased_recall_is_recall_and_else_the_rare_hit_counts_more():
    lists, targets = np.array([[0], [1]]), [np.array([0]), np.array([1])]
    one = metrics.hit_matrix(np.array([[0], [9]]), targets)
    even = metrics.debiased_recall(np.array([[0], [9]]), one, targets, metrics.inverse_popularity(np.full(10, 7)), k=1)
    assert even.mean() == pytest.approx(0.5)
    worth = metrics.inverse_popularity(np.array([99, 0] + [0] * 8))
    popular = metrics.debiased_recall(lists, np.array([[True], [False]]), targets, worth, k=1).mean()
    rare = metrics.debiased_recall(lists, np.array([[False], [True]]), targets, worth, k=1).mean()
    assert popular == pytest.approx(0.1 / 1.1) and rare == pytest.approx(1 / 1.1)


@given(seed=st.integers(0, 200))
def test_average_precision_of_a_whole_order_equals_scikit_learn(seed):
    """Over all products, with no more places than k, both definitions divide by the number of targets."""
    g = np.random.default_rng(seed)
    order = np.array([g.permutation(15) for _ in range(4)])
    targets = [np.sort(g.choice(15, int(g.integers(1, 8)), replace=False)) for _ in range(4)]
    found = metrics.hit_matrix(order, targets)
    mine = metrics.average_precision(found, metrics.target_counts(targets), 15)
    for row in range(4):
        score = np.empty(15)
        score[order[row]] = np.arange(15, 0, -1)
        assert mine[row] == pytest.approx(average_precision_score(np.isin(np.arange(15), targets[row]), score))


@given(cases=cases, k=st.integers(1, 11), seed=st.integers(0, 50))
def test_what_stands_below_k_changes_nothing_and_all_is_within_0_and_1(cases, k, seed):
    g = np.random.default_rng(seed)
    lists = np.array([items for items, _ in cases])
    shuffled = np.concatenate([lists[:, :k], g.permuted(lists[:, k:], axis=1)], axis=1)
    targets = [np.unique(wanted) for _, wanted in cases]
    size, worth = metrics.target_counts(targets), metrics.inverse_popularity(np.arange(13))
    every = []
    for some in (lists, shuffled):
        found = metrics.hit_matrix(some, targets)
        every.append(
            [
                metrics.hit_rate(found, k),
                metrics.ndcg(found, size, k),
                metrics.average_precision(found, size, k),
                metrics.reciprocal_rank(found, k),
                metrics.recall(found, size, k),
                metrics.precision(found, k),
                metrics.debiased_recall(some, found, targets, worth, k=k),
            ]
        )
    for one, other in zip(*every, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all((values >= 0).all() and (values <= 1).all() for values in every[0][:-1])


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_a_list_of_nothing_but_the_targets_is_perfect(sizes):
    targets = [np.arange(size) for size in sizes]
    lists = np.array([list(range(size)) + [-1] * (6 - size) for size in sizes])
    found, size = metrics.hit_matrix(lists, targets), metrics.target_counts(targets)
    assert (metrics.ndcg(found, size, 6) == 1).all() and (metrics.recall(found, size, 6) == 1).all()
    assert (metrics.average_precision(found, size, 6) == 1).all() and (metrics.reciprocal_rank(found, 6) == 1).all()
    assert metrics.precision(found, 6).tolist() == [count / 6 for count in sizes]
    assert metrics.debiased_recall(
        lists, found, targets, metrics.inverse_popularity(np.arange(6)), k=6
    ).mean() == pytest.approx(1)


def test_without_cases_there_are_no_values():
    empty = np.zeros((0, 4), np.int64)
    found = metrics.hit_matrix(empty, [])
    assert metrics.ndcg(found, metrics.target_counts([]), 4).shape == (0,)
    assert metrics.debiased_recall(empty, found, [], np.ones(3), k=4).shape == (0,)
