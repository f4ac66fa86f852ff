from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.holdout import HoldoutCases
from recsys.evaluate import sampled_lists as candidates
from tests.recommend.shops import START, histories

N = 15


def cases_of(given, targets):
    return HoldoutCases(histories(given), tuple(np.array(sorted(set(items))) for items in targets), START)


def ordered(orders):
    """A system with a whole order for each user; the users are told apart by their only event."""

    def system(given, k):
        rows = given.items[:, -1]
        return np.array([(list(orders[row]) + [-1] * k)[:k] for row in rows], np.int64)

    return system


@given(seed=st.integers(0, 200), k=st.integers(1, 6))
def test_lists_without_what_was_bought_are_the_order_without_it(seed, k):
    g = np.random.default_rng(seed)
    orders = [g.permutation(N)[: int(g.integers(3, N))] for _ in range(4)]
    own = tuple(np.sort(g.choice(N, int(g.integers(0, 5)), replace=False)) for _ in range(4))
    cases = cases_of([[0], [1], [2], [3]], [[0]] * 4)
    system = ordered(orders)
    found = candidates.drop_purchased(system, cases, system(cases.histories, k), own)
    for row in range(4):
        expected = [item for item in orders[row].tolist() if item not in own[row]][:k]
        assert [item for item in found[row].tolist() if item >= 0] == expected


@given(seed=st.integers(0, 200), number=st.integers(1, 20))
def test_negatives_are_sold_and_neither_bought_nor_wanted(seed, number):
    g = np.random.default_rng(seed)
    sellable = g.random(N) < 0.7
    targets = [g.choice(N, 2).tolist() for _ in range(3)]
    own = tuple(np.unique(g.choice(N, 3)) for _ in range(3))
    drawn = candidates.sample_negatives(cases_of([[0]] * 3, targets), own, sellable, count=number, seed=seed)
    for row, items in enumerate(drawn):
        free = set(np.flatnonzero(sellable).tolist()) - set(targets[row]) - set(own[row].tolist())
        assert len(set(items.tolist())) == len(items) == min(number, len(free))
        assert set(items.tolist()) <= free


def test_negatives_are_uniform():
    cases, purchased = cases_of([[0]] * 4000, [[0]] * 4000), (np.zeros(0, int),) * 4000
    drawn = candidates.sample_negatives(cases, purchased, np.ones(N, bool), count=3, seed=1)
    share = np.bincount(np.concatenate(drawn), minlength=N)[1:] / 12_000
    assert np.allclose(share, 1 / 14, atol=0.01)


def test_the_order_among_the_drawn_is_the_systems(monkeypatch):
    orders = [[5, 1, 9, 2, 7], [3, 4, 8]]
    cases, drawn = cases_of([[0], [1]], [[9], [8, 6]]), [np.array([7, 1]), np.array([4])]
    found = candidates.rank_among_negatives(ordered(orders), cases, drawn, n_items=N, k=3)
    assert found.tolist() == [[1, 9, 7], [4, 8, -1]]  # product 6 is never listed
    monkeypatch.setattr(candidates, "_MAX_CELLS", 1)
    assert candidates.rank_among_negatives(ordered(orders), cases, drawn, n_items=N, k=3).tolist() == found.tolist()
