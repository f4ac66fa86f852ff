from __future__ import annotations

import logging

import numpy as np
import pytest

from recsys.recommend.candidates import ease
from recsys.recommend.candidates.ease import EaseSource, fit_ease
from tests import oracles
from tests.recommend.shops import events, interactions
from tests.recommend.sourced import KNOWN, NOW
from tests.suites import CandidateSourceSuite


class TestEase(CandidateSourceSuite):
    known, now = KNOWN, NOW

    def make(self):
        return EaseSource(KNOWN, ridge=5.0)


def baskets_of(known, kept=lambda kind: kind != 5):
    """Distinct products of each user, without returns."""
    return [
        {int(known.item[at]) for at in range(known.starts[u], known.starts[u + 1]) if kept(known.event_type[at])}
        for u in range(known.n_users)
    ]


def found(known, *, ridge, products=1000, keep=1000):
    return fit_ease(known, ridge=ridge, max_products=products, n_neighbours=keep).toarray()


@pytest.mark.parametrize("ridge", [1.0, 40.0])
@pytest.mark.parametrize("rows", [2048, 3])
def test_the_weights_are_those_of_the_dense_inverse_where_they_are_positive(monkeypatch, ridge, rows):
    monkeypatch.setattr(ease, "_BLOCK_ROWS", rows)  # in several blocks, as with many products
    baskets = baskets_of(KNOWN)
    members = sorted(set().union(*baskets))
    expected = oracles.ease(baskets, KNOWN.n_items, ridge, members)
    assert (expected < -1e-4).any() and (np.abs(np.diag(expected)) < 1e-9).all()
    np.testing.assert_allclose(found(KNOWN, ridge=ridge), np.maximum(expected, 0), atol=2e-5)
    assert not np.diag(found(KNOWN, ridge=ridge)).any()


def test_buying_twice_counts_once():
    once = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 2, 0)]
    one, more = (found(events(rows, n_users=2, n_items=3), ridge=2.0) for rows in (once, once + [(0, 1, 5)] * 4))
    np.testing.assert_array_equal(one, more)
    assert one.any()


def test_what_was_returned_is_not_bought():
    known = events([(0, 0, 0), (0, 1, 0), (0, 2, 0, 5)], n_users=1, n_items=3)
    assert not found(known, ridge=2.0)[:, 2].any() and found(known, ridge=2.0)[0, 1] > 0


def test_of_many_products_the_most_bought_take_part_ties_by_row_and_it_is_said(caplog):
    known = interactions(users=200, items=12)
    baskets = baskets_of(known)
    buyers = [sum(item in basket for basket in baskets) for item in range(12)]
    members = sorted(sorted(range(12), key=lambda item: (-buyers[item], item))[:5])
    with caplog.at_level(logging.INFO, logger="recsys"):
        near = found(known, ridge=3.0, products=5)
    np.testing.assert_allclose(near, np.maximum(oracles.ease(baskets, 12, 3.0, members), 0), atol=2e-5)
    assert "the 5 most bought of 12 products" in caplog.text


def test_buyers_are_counted_not_purchases():
    rows = [(0, 0, day) for day in range(9)] + [(u, i, 0) for u in range(3) for i in (1, 2)]
    near = found(events(rows, n_users=3, n_items=3), ridge=1.0, products=2)
    assert np.flatnonzero(near.any(axis=1)).tolist() == [1, 2]


def test_the_largest_weights_of_each_product_are_kept():
    whole, few = found(KNOWN, ridge=5.0), found(KNOWN, ridge=5.0, keep=3)
    for row in range(KNOWN.n_items):
        order = sorted(np.flatnonzero(whole[row]), key=lambda item: (-whole[row, item], item))[:3]
        assert np.flatnonzero(few[row]).tolist() == sorted(order)
        np.testing.assert_array_equal(few[row, order], whole[row, order])


@pytest.mark.parametrize("rows", [[(0, 1, 0)], [(0, 1, 0, 5), (0, 2, 0, 5)], [(0, 1, 0), (0, 2, 0, 5)]])
def test_one_product_says_nothing_of_others(rows):
    known = events(rows, n_users=1, n_items=4)
    assert found(known, ridge=1.0).shape == (4, 4) and not found(known, ridge=1.0).any()
