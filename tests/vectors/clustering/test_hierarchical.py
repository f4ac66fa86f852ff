from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering

from recsys.vectors.clustering.hierarchical import WardTree, parent_clusters
from tests.suites import clustered


def same_parts(one, two):
    return len({(a, b) for a, b in zip(one, two, strict=True)}) == len(set(one)) == len(set(two))


@pytest.mark.parametrize("number", [1, 2, 5, 17, 150])
def test_a_cut_is_what_scikit_learn_gives_for_that_number(number):
    vectors = clustered(150, 6, seed=1, groups=6)
    expected = AgglomerativeClustering(number, linkage="ward").fit(vectors).labels_
    found = WardTree.fit(vectors, seed=0).cut(number)
    assert same_parts(expected, found) and found.max() == number - 1


def test_cuts_lie_within_each_other_and_never_ask_too_much():
    tree = WardTree.fit(clustered(80, 6, seed=2), seed=0)
    fine, coarse = tree.cut(30), tree.cut(6)
    assert all(len(set(coarse[fine == part])) == 1 for part in range(30))
    assert len(set(tree.cut(500))) == 80 and set(tree.cut(0)) == {0}
    assert WardTree.fit(np.ones((1, 3), np.float32), seed=0).cut(4).tolist() == [0]


def test_many_products_join_in_small_groups_first(monkeypatch):
    monkeypatch.setattr("recsys.vectors.clustering.hierarchical.MAX_LEAVES", 100)
    monkeypatch.setattr("recsys.vectors.clustering.hierarchical._SMALL", 60)
    middles = np.eye(4, 12, dtype=np.float32)
    truth = np.random.default_rng(0).integers(0, 4, size=400)
    vectors = middles[truth] + 0.05 * np.random.default_rng(1).normal(size=(400, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tree = WardTree.fit(vectors, seed=0)
    assert len(tree.merges) + 1 <= 60 and same_parts(tree.cut(4), truth)


def test_parents_bear_the_lowest_id_of_their_groups():
    around = np.repeat(np.eye(3, 10), 3, axis=0)
    vectors = around + 0.2 * np.eye(9, 10, k=1)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([40, 7, 12, 3, 55, 20, 8, 9, 30])
    group = np.concatenate([ids, [-1]])
    rows = np.concatenate([vectors, vectors[:1]])
    assert parent_clusters(rows, group) == {40: 7, 7: 7, 12: 7, 3: 3, 55: 3, 20: 3, 8: 8, 9: 8, 30: 8}
    assert parent_clusters(vectors[:5], ids[:5]) == {one: one for one in ids[:5].tolist()}  # too few for a level above
