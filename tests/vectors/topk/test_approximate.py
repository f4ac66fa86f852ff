from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from recsys.errors import UsageError
from recsys.vectors.topk.approximate import ApproximateScorer
from recsys.vectors.topk.scorer import top_k
from tests.suites import clustered

ITEMS, QUERIES = clustered(6000, 16, seed=1, groups=40), clustered(300, 16, seed=2, groups=40)


@pytest.fixture(scope="module")
def scorer():
    return ApproximateScorer(ITEMS, clustered(200, 16, seed=3, groups=40), 10, recall=0.9, filter_backend="torch")


def recall(rows, true):
    return np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(rows, true, strict=True)])


def test_it_finds_what_it_says_with_true_scores(scorer):
    g = np.random.default_rng(0)
    pairs = np.repeat(np.arange(300), 5), g.integers(6000, size=1500)
    scores, rows = scorer.top_k(QUERIES, 10, excluded=pairs)
    true = top_k(QUERIES, ITEMS, 10, excluded=pairs)
    assert 0.9 <= scorer.recall <= 1 and 1 <= scorer.n_probe < len(scorer.centroids)
    assert 0.85 < recall(rows, true[1]) < 1
    products = np.einsum("qd,qkd->qk", QUERIES.astype(np.float64), ITEMS[rows].astype(np.float64))
    np.testing.assert_array_equal(scores, products.astype(np.float32))
    assert (np.diff(scores, axis=1) <= 0).all() and all(len(set(line)) == 10 for line in rows.tolist())
    assert not np.isin(rows + 6000 * np.arange(300)[:, None], pairs[0] * 6000 + pairs[1]).any()


def test_a_list_does_not_depend_on_who_else_asks_or_how_many_threads_there_are(scorer):
    whole = scorer.top_k(QUERIES, 10)[1]
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert (scorer.top_k(QUERIES[100:140], 10)[1] == whole[100:140]).all()
    finally:
        torch.set_num_threads(threads)


def test_more_than_the_groups_hold_is_answered_exactly(scorer):
    queries = np.concatenate([QUERIES[:3], np.zeros((1, 16), np.float32)])
    found, true = scorer.top_k(queries, 5990), top_k(queries, ITEMS, 5990)
    assert (found[1] == true[1]).all() and (found[0] == true[0]).all()
    assert scorer.top_k(queries[3:], 3)[1].tolist() == [[0, 1, 2]]


def test_everything_asked_is_everything_looked_at(caplog):
    g = np.random.default_rng(0)
    items, queries = (g.normal(size=(n, 32)).astype(np.float32) for n in (3000, 60))
    allowed = np.arange(3000) % 2 == 0
    with caplog.at_level(logging.WARNING):
        scorer = ApproximateScorer(items, queries, 10, recall=1.0, allowed=allowed)
    assert (
        scorer.recall == 1 and scorer.n_probe == len(scorer.centroids) and "falling back to exact search" in caplog.text
    )
    found, true = scorer.top_k(queries, 10), top_k(queries, items, 10, allowed=allowed)
    assert (found[1] == true[1]).all()


def test_the_compiled_sieve_keeps_the_same(scorer):
    pytest.importorskip("numba")
    other = ApproximateScorer(ITEMS, clustered(200, 16, seed=3, groups=40), 10, recall=0.9, filter_backend="numba")
    assert (other.n_probe, other.recall) == (scorer.n_probe, scorer.recall)
    one, two = (each.top_k(QUERIES, 10) for each in (scorer, other))
    assert (one[1] == two[1]).all() and (one[0] == two[0]).all()


def test_odd_input():
    none = np.zeros((0, 16), np.float32)
    assert (ApproximateScorer(none, QUERIES, 5).top_k(QUERIES[:2], 3)[1] == -1).all()
    assert ApproximateScorer(ITEMS[:50], none, 5).top_k(QUERIES[:2], 3)[1].tolist() == (
        top_k(QUERIES[:2], ITEMS[:50], 3)[1].tolist()
    )
    with pytest.raises(UsageError, match="recall is 1.5"):
        ApproximateScorer(ITEMS, QUERIES, 5, recall=1.5)
    with pytest.raises(UsageError, match="sample query 0 is not a number"):
        ApproximateScorer(ITEMS[:600], QUERIES[:1] * np.nan, 5)
