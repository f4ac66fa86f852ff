from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend.topk import largest, top_k
from tests import oracles
from tests.suites import clustered, on_grid


def check(found, expected):
    scores, rows = found
    for at, best in enumerate(expected):
        assert rows[at, : len(best)].tolist() == [row for _, row in best]
        assert scores[at, : len(best)].tolist() == [score for score, _ in best]
        assert (rows[at, len(best) :] == -1).all() and (scores[at, len(best) :] == -np.inf).all()


@given(
    n=st.integers(0, 60),
    b=st.integers(1, 9),
    k=st.integers(1, 20),
    seed=st.integers(0, 500),
    block=st.sampled_from([(1, 1), (2, 7), (4, 1000), (1024, 13)]),
    share=st.sampled_from([None, 0.0, 0.5]),
)
def test_exact_in_any_blocks_with_ties_by_the_lower_row(n, b, k, seed, block, share):
    items, queries = on_grid(n, 3, seed=seed), on_grid(b, 3, seed=seed + 1)
    allowed = None if share is None else np.random.default_rng(seed).random(n) < share
    found = top_k(queries, items, k, allowed=allowed, block=block)
    check(found, oracles.nearest(items, queries, k, allowed))
    assert found[0].dtype == np.float32 and found[1].dtype == np.int64 and found[0].shape == found[1].shape == (b, k)


@given(seed=st.integers(0, 300), count=st.integers(0, 60), block=st.sampled_from([(2, 5), (512, 512)]))
def test_excluded_pairs_never_come_back(seed, count, block):
    g = np.random.default_rng(seed)
    items, queries = on_grid(30, 4, seed=seed), on_grid(6, 4, seed=seed + 9)
    pairs = g.integers(6, size=count), g.integers(30, size=count)
    _, rows = top_k(queries, items, 30, excluded=pairs, block=block)
    for at, query in enumerate(queries):
        barred = np.ones(30, bool)
        barred[pairs[1][pairs[0] == at]] = False
        best = oracles.nearest(items, query[None], 30, barred)[0]
        assert rows[at, : len(best)].tolist() == [row for _, row in best] and (rows[at, len(best) :] == -1).all()


def test_equal_items_fill_by_row_across_blocks():
    items = np.ones((100, 2), np.float32)
    _, rows = top_k(items[:3], items, 9, block=(2, 7))
    assert (rows == np.arange(9)).all()


def test_the_same_call_gives_the_same_bytes():
    items, queries = clustered(5000, 32, seed=1), clustered(70, 32, seed=2)
    one, two = (top_k(queries, items, 12) for _ in range(2))
    assert one[0].tobytes() == two[0].tobytes() and one[1].tobytes() == two[1].tobytes()


def test_nothing_asked_nothing_there():
    none = np.zeros((0, 3), np.float32)
    assert top_k(none, np.ones((4, 3), np.float32), 2)[1].shape == (0, 2)
    assert (top_k(np.ones((2, 3), np.float32), none, 2)[1] == -1).all()


@given(seed=st.integers(0, 200), k=st.integers(1, 12))
def test_largest_of_a_dense_block_sorts_like_python(seed, k):
    scores = np.random.default_rng(seed).integers(-2, 3, size=(4, 9)).astype(np.float32)
    scores[scores == -2] = -np.inf
    values, columns = largest(scores, k)
    for row in range(4):
        best = sorted((-value, at) for at, value in enumerate(scores[row].tolist()) if value > -np.inf)[:k]
        assert columns[row][columns[row] >= 0].tolist() == [at for _, at in best]
        assert values[row][columns[row] >= 0].tolist() == [-value for value, _ in best]
