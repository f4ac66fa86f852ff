from __future__ import annotations

import numpy as np

from recsys.vectors.clustering.exemplars import select_exemplars
from recsys.vectors.clustering.kmeans import centroid_distances
from tests.suites import clustered
from tests.vectors.shops import catalogue


def test_near_the_middle_for_sale_and_nothing_twice():
    vectors = np.eye(12, dtype=np.float32)
    vectors[7] = vectors[6]  # the same picture and words
    shop = catalogue(
        {
            "title": ["Boot", "boot ", "Hat", None, None, "Cap", "Scarf", "Shawl", "Bag", "Belt", "Tie", "Sock"],
            "group_id": [None, None, None, None, "g1", "g1", None, None, None, None, None, None],
        },
        sellable=[True] * 2 + [False] + [True] * 9,
    )
    group = np.array([4] * 9 + [-1] + [6] * 2)
    distance = np.arange(12, dtype=np.float32)
    found = select_exemplars(shop, vectors, cluster_ids=group, distance=distance, count=4)
    assert {one: rows.tolist() for one, rows in found.items()} == {4: [0, 3, 4, 6], 6: [10, 11]}
    assert select_exemplars(shop, vectors, cluster_ids=group, distance=-distance, count=2)[4].tolist() == [8, 7]
    assert select_exemplars(shop, vectors, cluster_ids=group, distance=distance, count=0)[4].tolist() == []
    none = catalogue({"title": [None] * 12}, sellable=[False] * 12)
    assert select_exemplars(none, vectors, cluster_ids=group, distance=distance, count=3)[4].tolist() == []


def test_distances_are_to_the_mean_direction():
    vectors, group = clustered(60, 5, seed=1), np.arange(60) % 4 - 1
    found = centroid_distances(vectors, group)
    for row in range(60):
        middle = vectors[group == group[row]].sum(axis=0)
        expected = np.nan if group[row] < 0 else 1 - vectors[row] @ middle / np.linalg.norm(middle)
        np.testing.assert_allclose(found[row], expected, atol=1e-6)
