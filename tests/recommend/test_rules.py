from __future__ import annotations

import numpy as np
import pytest

from recsys.config import RuleSettings
from recsys.recommend import rules
from recsys.recommend.features import Pairs
from tests.recommend.shops import events, histories

SOURCES = ["repurchase", "popular"]
KNOWN = events([(0, 1, 0), (0, 2, 1, 2), (0, 3, 2)], n_users=2, n_items=6)
SELLABLE = np.array([True, True, False, True, True, True])


def pairs():
    """Every product for two users, all by `popular`; product 1 and 3 by `repurchase` too."""
    user, item = np.repeat([0, 1], 6), np.tile(np.arange(6), 2)
    held = np.ones((12, 2), bool)
    held[:, 0] = np.isin(item, [1, 3])
    return Pairs(user, item, held.astype(np.float32), held, np.full((12, 2), -1))


def kept(users, **asked):
    left = pairs()
    for rule in rules.made(RuleSettings(**asked), KNOWN, sources=SOURCES, sellable=SELLABLE):
        left = left.take(rule.keep(left, users))
    return [left.item[left.user == user].tolist() for user in (0, 1)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [[0, 1, 3, 4, 5], [0, 1, 3, 4]]),
        ({"seen": "exclude"}, [[0, 4, 5], [0, 1, 3, 4]]),
        ({"seen": "allow"}, [[0, 1, 3, 4, 5], [0, 1, 3, 4, 5]]),
        ({"available_only": False}, [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4]]),
    ],
)
def test_what_stays(asked, expected):
    users = histories([[1, 2, 3], [5]], kinds=[[0, 2, 0], [0]])
    assert kept(users, **asked) == expected


def test_without_the_repurchase_source_nothing_bought_stays():
    made = rules.made(RuleSettings(), KNOWN, sources=["popular"], sellable=SELLABLE)
    left = pairs()
    for rule in made:
        left = left.take(rule.keep(left, histories([[1], [5]])))
    assert left.item[left.user == 0].tolist() == [0, 3, 4, 5]


def test_purchases_before_the_end_of_the_history_count_too():
    short = KNOWN.histories(np.array([0, 1]), 1)
    assert short.items.tolist() == [[3], [-1]]
    assert rules.bought(short, KNOWN).tolist() == [1, 3]


def test_nobody_bought_anything():
    assert rules.bought(histories([[], []]), KNOWN).tolist() == []
