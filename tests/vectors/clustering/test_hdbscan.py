from __future__ import annotations

from collections import Counter

import numpy as np

from recsys.vectors.clustering import hdbscan as density


def dense(sizes, stray, *, seed=0, d=8):
    """Tight groups, and products anywhere: vectors, the group of each, -1 = anywhere."""
    g = np.random.default_rng(seed)
    truth = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(stray, -1)])
    vectors = np.where(truth[:, None] >= 0, np.eye(len(sizes), d)[truth], g.normal(size=(len(truth), d)))
    vectors += 0.02 * g.normal(size=vectors.shape)
    order = g.permutation(len(truth))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)[order], truth[order]


def test_dense_groups_are_found_and_strays_are_in_none():
    vectors, truth = dense([40, 30, 20], 30)  # a few strays happen to lie beside a group
    group = density.hdbscan_labels(vectors, 10, seed=0)
    assert set(group) == {-1, 0, 1, 2} and group.dtype == np.int64
    for part in range(3):
        held = truth[group == part]
        assert np.bincount(held[held >= 0]).max() >= 0.75 * len(held)
    assert (group[truth == -1] == -1).mean() > 0.5


def test_few_products_are_in_none():
    for n in (0, 1, 3, 10):
        vectors, _ = dense([n], 0)
        assert density.hdbscan_labels(vectors, 10, seed=0).tolist() == [-1] * n
    assert [density.default_min_cluster_size(n) for n in (10, 400, 10_000)] == [5, 5, 25]


def test_products_beyond_the_sample_go_with_their_neighbours(monkeypatch):
    vectors, truth = dense([200, 150, 100], 60)
    monkeypatch.setattr(density, "_SAMPLE", 180)
    group = density.hdbscan_labels(vectors, 30, seed=1)
    assert {0, 1, 2} <= set(group)
    for part in range(3):
        assert len(set(group[truth == part]) - {-1}) == 1 and (group[truth == part] >= 0).mean() > 0.85
    assert (group[truth == -1] == -1).mean() > 0.5
    np.testing.assert_array_equal(group, density.hdbscan_labels(vectors, 30, seed=1))


def test_joined_is_the_vote_of_five():
    g = np.random.default_rng(3)
    known, asked = g.normal(size=(40, 4)).astype(np.float32), g.normal(size=(30, 4)).astype(np.float32)
    group = g.integers(-1, 3, size=40)
    for row, found in enumerate(density.assign_by_neighbours(asked, known, group)):
        near = np.argsort(((known - asked[row]) ** 2).sum(axis=1))[:5]
        votes = Counter(group[near].tolist())
        best = max(votes.values())
        assert found == next(one for one in group[near].tolist() if votes[one] == best)
    assert density.assign_by_neighbours(asked, known[:2], group[:2]).tolist() == [
        group[:2][np.argmin(((known[:2] - one) ** 2).sum(axis=1))] for one in asked
    ]
