from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.vectors.index import build as index
from recsys.vectors.search import variants
from recsys.vectors.search.rank_fusion import reciprocal_rank_fusion
from tests.vectors.shops import catalogue


def test_families_are_groups_and_single_products():
    shop = catalogue({"title": [None] * 5, "group_id": ["a", None, "a", "b", None]})
    kin = variants.variant_groups(shop)
    assert kin[0] == kin[2] and len(set(kin.tolist())) == 4
    assert variants.variant_groups(catalogue({"title": [None] * 3})) is None
    assert variants.variant_groups(catalogue({"title": [None] * 3, "group_id": ["a", "b", None]})) is None


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    k=st.integers(1, 12),
    allowed=st.sampled_from([0.05, 0.5, 1.0]),
    seed=st.integers(0, 9),
)
def test_the_best_of_each_family_against_a_plain_loop(sizes, k, allowed, seed):
    """Also one family that fills every place: the search goes on without it until k others are found."""
    g = np.random.default_rng(seed)
    n = sum(sizes)
    kin = g.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    vectors = g.integers(-3, 4, (n, 4)).astype(np.float32)  # many ties
    allow = g.random(n) < allowed
    queries = g.integers(-3, 4, (3, 4)).astype(np.float32)
    barred = [g.choice(len(sizes), size=g.integers(0, 3)).astype(np.int64) for _ in range(3)]
    scores, rows = variants.search_distinct(
        index.build_index(vectors), queries, k, allow=allow, groups=kin, excluded=barred
    )
    for at in range(3):
        exact = vectors @ queries[at]
        seen, wanted = set(barred[at].tolist()), []
        for row in np.lexsort((np.arange(n), -exact)).tolist():
            if allow[row] and int(kin[row]) not in seen:
                seen.add(int(kin[row]))
                wanted.append(row)
        wanted = wanted[:k]
        assert rows[at].tolist() == wanted + [-1] * (k - len(wanted))
        assert scores[at, : len(wanted)].tolist() == exact[wanted].tolist()
        assert np.isneginf(scores[at, len(wanted) :]).all()


def test_rankings_are_fused_by_place():
    scores, rows = reciprocal_rank_fusion([np.array([3, 1, 2]), np.array([2, 3])], 4)
    assert rows.tolist() == [3, 2, 1]
    np.testing.assert_allclose(scores, [1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62], rtol=1e-6)
    scores, rows = reciprocal_rank_fusion([np.array([5]), np.array([4])], 4, constant=1)
    assert rows.tolist() == [4, 5] and scores.tolist() == [0.5, 0.5]  # ties by lower row
    assert reciprocal_rank_fusion([np.array([], np.int64)], 3)[1].tolist() == []


def test_variants_share_their_points_and_the_best_placed_stands_for_them():
    kin = np.array([0, 0, 2, 3])
    scores, rows = reciprocal_rank_fusion([np.array([2, 1]), np.array([0, 3])], 4, groups=kin)
    assert rows.tolist() == [0, 2, 3]
    assert scores[0] == pytest.approx(1 / 62 + 1 / 61)
