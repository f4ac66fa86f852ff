"""Mistyped dates are found; seasons, sparse shops and small ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.data.outlying_times import outlying_times
from recsys.data.schema import DAY

DAILY = np.sort(np.random.default_rng(3).integers(0, 60 * DAY, 400))
USERS = np.arange(400) % 50


def found(*extra, user=None):
    time = np.r_[DAILY, np.array(extra, np.int64)]
    users = np.r_[USERS, np.full(len(extra), 7) if user is None else user]
    return np.flatnonzero(outlying_times(users, time)).tolist()


@pytest.mark.parametrize("day", [-3000, -200, 150, 400])
def test_one_event_far_from_all_others_is_found(day):
    assert found(day * DAY) == [400]


def test_an_order_of_some_lines_is_found_and_several_customers_are_not():
    assert found(*[150 * DAY] * 3) == [400, 401, 402]
    assert found(*[150 * DAY] * 3, user=[1, 2, 3]) == []
    assert found(-90 * DAY, 150 * DAY) == [400, 401]


def test_days_apart_are_no_outliers():
    assert found() == []
    assert found(75 * DAY) == []


def test_a_sparse_shop_or_a_small_one_has_none():
    sparse = np.cumsum(np.random.default_rng(1).integers(1, 120, 60)) * DAY
    assert not outlying_times(np.arange(60), sparse).any()
    assert not outlying_times(np.arange(6), np.array([1, 2, 3, 4, 5, 900]) * DAY).any()
    assert not outlying_times(np.zeros(0, np.int64), np.zeros(0, np.int64)).any()


def test_a_shop_that_closes_every_winter_has_none():
    season = np.concatenate([year * 365 + np.arange(120) for year in range(3)] + [[3 * 365]]) * DAY
    assert not outlying_times(np.arange(361) % 40, season).any()
