from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.id_map import IdMap
from recsys.vectors.clustering.id_matching import PreviousClusters, cluster_changes, match_cluster_ids


def test_last_groups_by_todays_rows():
    members = pl.DataFrame({"product_id": ["b", "gone", "a"], "cluster_id": [7, 2, -1]})
    assert PreviousClusters(members).rows(IdMap(["a", "b", "c"])).tolist() == [-1, 7, -2]


def test_new_groups_are_numbered_by_size_above_all_that_were():
    group = np.array([0, 1, 1, 2, 2, 2, -1])
    assert match_cluster_ids(group, None).tolist() == [2, 1, 1, 0, 0, 0, -1]
    assert match_cluster_ids(group, None, next_id=5).tolist() == [7, 6, 6, 5, 5, 5, -1]
    last = np.array([-2, 9, 9, -2, -2, -1, 9])
    assert match_cluster_ids(group, last, next_id=4).tolist() == [11, 9, 9, 10, 10, 10, -1]
    assert (
        match_cluster_ids(np.full(3, -1), last[:3]).tolist() == [-1] * 3
        and match_cluster_ids(group[:0], None).tolist() == []
    )


@given(seed=st.integers(0, 200), olds=st.integers(1, 5), news=st.integers(1, 5))
def test_the_pairing_is_the_best_of_all(seed, olds, news):
    g = np.random.default_rng(seed)
    group = np.unique(g.integers(0, news, size=24), return_inverse=True)[1]
    last = g.integers(0, olds, size=24) * 10
    names = match_cluster_ids(group, last)
    new, old = sorted(set(group.tolist())), sorted(set(last.tolist()))

    def overlap(a, b):
        return ((group == a) & (last == b)).sum() / ((group == a) | (last == b)).sum()

    def total(pairs):
        return sum(overlap(a, b) for a, b in pairs)

    padded = old + [None] * max(0, len(new) - len(old))
    best = max(
        total([(a, b) for a, b in zip(new, order, strict=False) if b is not None])
        for order in permutations(padded, len(new))
    )
    own = {a: int(names[group == a][0]) for a in new}
    assert all(len(set(names[group == a])) == 1 for a in new) and len(set(own.values())) == len(new)
    taken = [(a, b) for a, b in own.items() if b in old]
    assert all(overlap(a, b) >= 0.2 - 1e-6 for a, b in taken)
    # what is missing to the best are pairs that share too little to be the same group
    assert best - total(taken) < 0.2 * (min(len(new), len(old)) - len(taken)) + 1e-6
    assert all(name > max(old) for a, name in own.items() if name not in old)


def test_changes_tell_where_products_went_and_came_from():
    last = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, -1, -2, -2, -2])
    now = np.array([1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 9, 9, 8, 8, 8, 8])
    now[7] = 1
    told = {1: "shoes", 2: "boots", 3: "hats", 5: "empty"}
    frame = cluster_changes(now, {1: "shoes boots", 3: "caps", 8: "masks", 9: "hats"}, last, told)
    assert frame.rows() == [
        ("retired", 2, "boots", 4, "100% 1 shoes boots"),  # merged
        ("retired", 5, "empty", 0, ""),
        ("new", 8, "masks", 4, "75% new products, 25% no group"),
        ("new", 9, "hats", 2, "100% 3 hats"),  # split
    ]
    assert (
        cluster_changes(now, {}, None, told).height == 0
        and cluster_changes(last, told, last, {1: "a", 2: "b", 3: "c"}).height == 0
    )
