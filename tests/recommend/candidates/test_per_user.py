from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recsys.recommend.candidates import content
from recsys.recommend.candidates import per_user as order
from recsys.recommend.candidates.content import sparse_dot

pairs = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([-np.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.5, 3e38])),
    max_size=40,
)


@given(some=pairs)
@pytest.mark.parametrize("users", [order._MAX_USERS, 1])
def test_pairs_stand_by_user_then_falling_score_then_as_they_stood(some, users):
    rows = sorted(some, key=lambda pair: pair[0])
    user, score = np.array([u for u, _ in rows], np.int64), np.array([s for _, s in rows], np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_MAX_USERS", users)  # with few, they are sorted by index
        found = order.argsort_by_user_score(user, score)
    assert found.tolist() == sorted(range(len(rows)), key=lambda at: (user[at], -score[at], at))


@given(some=pairs, k=st.integers(1, 6))
def test_the_foremost_are_the_first_k_of_that_order(some, k):
    rows = sorted(some, key=lambda pair: pair[0])
    user, score = np.array([u for u, _ in rows], np.int64), np.array([s for _, s in rows], np.float32)
    expected = []
    for one in range(5):
        own = sorted((at for at in range(len(rows)) if user[at] == one), key=lambda at: (-score[at], at))
        expected += sorted(own[:k])
    assert order.top_k_per_user(user, score, k).tolist() == expected


@given(seed=st.integers(0, 200), entries=st.integers(1, 9), cells=st.integers(1, 40))
def test_shared_words_are_inner_products_however_they_are_cut(seed, entries, cells):
    g = np.random.default_rng(seed)
    one, other = (
        sparse.random(rows, 7, density=0.4, format="csr", dtype=np.float32, random_state=int(g.integers(1000)))
        for rows in (5, 9)
    )
    left, right = np.sort(g.integers(5, size=13)), g.integers(9, size=13)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "_MAX_SPARSE_ENTRIES", entries)
        patch.setattr(content, "_MAX_DENSE_CELLS", cells)
        found = sparse_dot(one, other, left, right)
    dense = (one.toarray()[left] * other.toarray()[right]).sum(axis=1)
    assert found == pytest.approx(dense, abs=1e-6)
