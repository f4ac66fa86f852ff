"""Customers are counted, not events."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.data.popularity import count_customers


def test_a_customer_who_buys_often_counts_a_little_more_than_one():
    user = np.r_[np.zeros(3000, np.int64), np.arange(1, 21), [0, 0]]
    item = np.r_[np.zeros(3000, np.int64), np.ones(20, np.int64), [2, 2]]
    worth = np.r_[np.ones(3020), [0.2, 0.3]]
    found = count_customers(user, item, worth, n_users=21, n_items=4)
    assert found.tolist() == pytest.approx([1 + np.log(3000) / 4, 20, 0.5, 0])


def test_without_events_nothing_is_popular():
    empty = np.zeros(0, np.int64)
    assert count_customers(empty, empty, np.zeros(0), n_users=0, n_items=2).tolist() == [0, 0]
