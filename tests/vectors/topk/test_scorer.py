from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, UsageError
from recsys.vectors.topk import rescore
from recsys.vectors.topk.low_precision import LowPrecisionItems
from recsys.vectors.topk.scorer import ExactScorer, dense_top_k, top_k
from recsys.vectors.topk.threshold import ThresholdFilter
from tests import oracles
from tests.suites import clustered, on_grid

compiled = [] if importlib.util.find_spec("numba") is None else ["numba"]
WAYS = [(precision, sieve) for precision in ("bf16", "fp32") for sieve in ("torch", *compiled)]
ways = st.sampled_from(WAYS)


def check(found, expected):
    scores, rows = found
    for at, best in enumerate(expected):
        assert rows[at, : len(best)].tolist() == [row for _, row in best]
        assert scores[at, : len(best)].tolist() == [score for score, _ in best]
        assert (rows[at, len(best) :] == -1).all() and (scores[at, len(best) :] == -np.inf).all()


def plainly(queries, items, k, excluded=()):
    """All scores in float64, rounded, sorted by row where equal."""
    scores = (queries.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32) + np.float32(0)
    for query, item in excluded:
        scores[query, item] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(scores, rows, axis=1)
    return value, np.where(value > -np.inf, rows, -1)


def same(one, other):
    return one[0].tobytes() == other[0].tobytes() and one[1].tolist() == other[1].tolist()


@given(
    n=st.integers(0, 60),
    b=st.integers(1, 9),
    k=st.integers(1, 20),
    seed=st.integers(0, 500),
    block=st.sampled_from([None, (1, 1), (2, 7), (1024, 13)]),
    share=st.sampled_from([None, 0.0, 0.5]),
    way=ways,
)
@settings(deadline=None)
def test_exact_in_any_blocks_with_ties_by_the_lower_row(n, b, k, seed, block, share, way):
    items, queries = on_grid(n, 3, seed=seed), on_grid(b, 3, seed=seed + 1)
    allowed = None if share is None else np.random.default_rng(seed).random(n) < share
    found = top_k(queries, items, k, allowed=allowed, block=block, precision=way[0], filter_backend=way[1])
    check(found, oracles.nearest(items, queries, k, allowed))
    assert found[0].dtype == np.float32 and found[1].dtype == np.int64 and found[0].shape == found[1].shape == (b, k)


@given(seed=st.integers(0, 300), count=st.integers(0, 60), block=st.sampled_from([(2, 5), (512, 512)]), way=ways)
@settings(deadline=None)
def test_excluded_pairs_never_come_back(seed, count, block, way):
    g = np.random.default_rng(seed)
    items, queries = on_grid(30, 4, seed=seed), on_grid(6, 4, seed=seed + 9)
    pairs = g.integers(6, size=count), g.integers(30, size=count)
    _, rows = top_k(queries, items, 30, excluded=pairs, block=block, precision=way[0], filter_backend=way[1])
    for at, query in enumerate(queries):
        barred = np.ones(30, bool)
        barred[pairs[1][pairs[0] == at]] = False
        best = oracles.nearest(items, query[None], 30, barred)[0]
        assert rows[at, : len(best)].tolist() == [row for _, row in best] and (rows[at, len(best) :] == -1).all()


@given(
    seed=st.integers(0, 10_000),
    apart=st.sampled_from([1e-1, 1e-3, 1e-5, 1e-7, 0.0]),
    sizes=st.sampled_from([(0, 0), (60, 60), (-60, -60), (-148, 0), (0, -148), (126, -148)]),
    sign=st.sampled_from([1, -1]),
    way=ways,
)
@settings(deadline=None)
def test_scores_closer_than_rounding_are_told_apart(seed, apart, sizes, sign, way):
    g = np.random.default_rng(seed)
    middle = g.normal(size=8)
    items = np.ldexp(sign * (middle + apart * g.normal(size=(400, 8))) / 4, sizes[0]).astype(np.float32)
    items[g.integers(400, size=40)] = items[0]
    queries = np.ldexp((middle + 0.3 * g.normal(size=(5, 8))) / 4, sizes[1]).astype(np.float32)
    pairs = np.repeat(np.arange(5), 9), g.integers(400, size=45)
    found = top_k(queries, items, 7, excluded=pairs, block=(3, 128), precision=way[0], filter_backend=way[1])
    assert same(found, plainly(queries, items, 7, zip(*pairs, strict=True)))


def test_bf16_alone_would_be_wrong():
    items, queries = clustered(3000, 32, seed=1), clustered(50, 32, seed=2)
    short = (torch.from_numpy(queries).bfloat16() @ torch.from_numpy(items).bfloat16().T).float().numpy()
    true = plainly(queries, items, 10)[1]
    assert (dense_top_k(short, 10)[1] != true).any(axis=1).mean() > 0.9
    assert (top_k(queries, items, 10, precision="bf16")[1] == true).all()


@pytest.mark.parametrize(("precision", "sieve"), WAYS)
def test_thousands_of_equal_products_give_the_lowest_rows(precision, sieve):
    g = np.random.default_rng(0)
    items = np.concatenate([clustered(200, 16, seed=3), np.tile(g.normal(size=(1, 16)), (5000, 1))]).astype(np.float32)
    queries = np.stack([items[-1], -items[-1], items[5]])
    pairs = np.array([0, 0, 2]), np.array([200, 203, 5])
    found = top_k(queries, items, 6, excluded=pairs, precision=precision, filter_backend=sieve)
    assert same(found, plainly(queries, items, 6, zip(*pairs, strict=True)))
    assert found[1][0].tolist() == [201, 202, 204, 205, 206, 207]


@pytest.mark.parametrize(("precision", "sieve"), WAYS)
def test_many_threads_any_blocks_and_formats_give_the_same_bytes(precision, sieve):
    items, queries = clustered(5000, 24, seed=1), clustered(70, 24, seed=2) - 0.4
    one = plainly(queries, items, 12)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for block in (None, (16, 640)):
            assert same(top_k(queries, items, 12, block=block, precision=precision, filter_backend=sieve), one)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("precision", "sieve"), WAYS)
def test_zero_queries_and_zero_items(precision, sieve):
    items = clustered(300, 8, seed=0)
    queries = np.stack([items[3], 0 * items[3]])
    allowed = np.arange(300) % 2 == 0
    pairs = np.array([1, 1, 0]), np.array([0, 4, 3])
    kwargs = {"precision": precision, "filter_backend": sieve, "allowed": allowed, "excluded": pairs}
    assert top_k(queries, items, 4, **kwargs)[1][1].tolist() == [2, 6, 8, 10]
    scores, rows = top_k(queries, 0 * items, 4, **kwargs)
    assert rows.tolist() == [[0, 2, 4, 6], [2, 6, 8, 10]] and not scores.any()
    assert top_k(queries, np.zeros((5, 8), np.float32), 4, excluded=pairs)[1].tolist() == [[0, 1, 2, 4], [1, 2, 3, -1]]


def test_what_is_no_number_is_refused():
    items = np.ones((5, 2), np.float32)
    bad = items.copy()
    bad[3, 1] = np.nan
    with pytest.raises(UsageError, match="vector of item 3 is not a number"):
        top_k(items, bad, 2)
    with pytest.raises(UsageError, match="vector of query 3 is not a number"):
        top_k(bad, items, 2)
    with pytest.raises(UsageError, match="larger than float32 holds"):
        top_k(items * np.float32(1e30), items * np.float32(1e30), 2)


def test_a_sieve_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    items = clustered(30, 4, seed=0)
    with pytest.raises(ConfigError, match=r"recsys\[fast\]"):
        top_k(items, items, 2, filter_backend="numba")
    assert top_k(items, items, 1)[1][:, 0].tolist() == list(range(30))


@given(
    seed=st.integers(0, 10_000), d=st.integers(1, 70), scale=st.sampled_from([-149, -140, -30, 0, 30, 100]), way=ways
)
@settings(deadline=None)
def test_a_rough_score_is_never_further_off_than_the_bound(seed, d, scale, way):
    g = np.random.default_rng(seed)
    items = np.ldexp(g.normal(size=(40, d)) * 10.0 ** g.uniform(-4, 0, size=(40, 1)), scale).astype(np.float32)
    queries = g.normal(size=(5, d)).astype(np.float32)
    dtype = torch.bfloat16 if way[0] == "bf16" else torch.float32
    bounds, device = np.array([0, 25, 40]), torch.device("cpu")
    rough = LowPrecisionItems(items, np.arange(40), bounds, dtype=dtype, device=device, cache_blocks=bool(seed % 2))
    asked, off = rough.convert_queries(queries)
    scores = (
        asked.float() @ torch.cat([rough.block(0), rough.block(1)], dim=1).float()
    )  # what the product sums, before it is rounded
    exponents = np.frexp(np.abs(queries).max(axis=1, keepdims=True))[1]
    true = np.ldexp(queries.astype(np.float64), -exponents) @ np.ldexp(items.astype(np.float64), -rough.exponent).T
    assert (np.abs(scores.numpy() - true) <= off.numpy()[:, None]).all()


@given(seed=st.integers(0, 500), k=st.integers(1, 9), most=st.sampled_from([9, 40, 400]), way=ways)
@settings(deadline=None)
def test_the_sieve_keeps_all_it_must_or_gives_up(seed, k, most, way):
    g = np.random.default_rng(seed)
    dtype = torch.bfloat16 if way[0] == "bf16" else torch.float32
    true = g.normal(size=(6, 512)) - g.integers(3)
    off = 10.0 ** g.uniform(-4, -1)
    scores = torch.from_numpy(true + g.uniform(-off, off, size=true.shape)).float().to(dtype)
    if way[1] == "numba":
        from recsys.vectors.topk.threshold_numba import NumbaThresholdFilter as Kind
    else:
        Kind = ThresholdFilter  # noqa: N806
    sieve = Kind(torch.full((6,), off * 1.001, dtype=torch.float64), k, dtype=dtype, max_candidates=most)
    for first in range(0, 512, 128):
        sieve.add(scores[:, first : first + 128].contiguous(), first)
    user, place = sieve.candidates()
    for at in np.flatnonzero(~sieve.overflowed.numpy()):
        assert set(np.argsort(-true[at])[:k]) <= set(place[user == at].tolist())
    if most == 400:
        assert not sieve.overflowed.any()
    if not sieve.overflowed.any():
        assert len(user) < 6 * 512


def test_a_scorer_answers_again_and_again():
    items, queries = clustered(900, 16, seed=1), clustered(40, 16, seed=2)
    scorer = ExactScorer(items, allowed=np.arange(900) % 3 > 0)
    for some in (slice(0, 1), slice(0, 40), slice(7, 9)):
        for k in (3, 200, 1000):
            assert same(scorer.top_k(queries[some], k), top_k(queries[some], items, k, allowed=np.arange(900) % 3 > 0))


def test_nothing_asked_nothing_there():
    none = np.zeros((0, 3), np.float32)
    assert top_k(none, np.ones((4, 3), np.float32), 2)[1].shape == (0, 2)
    assert (top_k(np.ones((2, 3), np.float32), none, 2)[1] == -1).all()


@given(seed=st.integers(0, 200), k=st.integers(1, 12))
@settings(deadline=None)
def test_largest_of_a_dense_block_sorts_like_python(seed, k):
    scores = np.random.default_rng(seed).integers(-2, 3, size=(4, 9)).astype(np.float32)
    scores[scores == -2] = -np.inf
    values, columns = dense_top_k(scores, k)
    for row in range(4):
        best = sorted((-value, at) for at, value in enumerate(scores[row].tolist()) if value > -np.inf)[:k]
        assert columns[row][columns[row] >= 0].tolist() == [at for _, at in best]
        assert values[row][columns[row] >= 0].tolist() == [-value for value, _ in best]


@given(seed=st.integers(0, 500), k=st.integers(1, 5))
@settings(deadline=None)
def test_ranking_by_one_number_is_ranking_by_score_then_row(seed, k):
    g = np.random.default_rng(seed)
    user = np.sort(g.integers(4, size=25))
    row = np.concatenate([g.choice(99, (user == at).sum(), replace=False) for at in range(4)])
    scores = g.choice(np.float32([-3e38, -1.5, -1e-45, 0, 1e-45, 2, 3e38]), size=25)
    value, found = rescore.rank_per_query(scores, user, row, b=4, k=k)
    for at in range(4):
        best = sorted(zip((-scores[user == at]).tolist(), row[user == at].tolist(), strict=True))[:k]
        held = found[at] >= 0
        assert list(zip((-value[at][held]).tolist(), found[at][held].tolist(), strict=True)) == best
