from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import RuleSettings
from recsys.errors import ConfigError, DataContractError
from recsys.recommend.candidates.source import CandidatePairs
from recsys.recommend.rules import purchase_filters
from recsys.recommend.rules import rule_set as rules
from recsys.recommend.rules.price_filter import PriceRangeFilter, comparable_prices
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, events, histories

SOURCES = ["repurchase", "popular"]
KNOWN = events([(0, 1, 0), (0, 2, 1, 2), (0, 3, 2)], n_users=2, n_items=6)
SELLABLE = np.array([True, True, False, True, True, True])


def pairs():
    """Every product for two users, all by `popular`; product 1 and 3 by `repurchase` too."""
    user, item = np.repeat([0, 1], 6), np.tile(np.arange(6), 2)
    held = np.ones((12, 2), bool)
    held[:, 0] = np.isin(item, [1, 3])
    return CandidatePairs(user, item, held, np.full((12, 2), -1))


def kept(users, **asked):
    left = pairs()
    for rule in rules.build_training_filters(RuleSettings(**asked), KNOWN, sources=SOURCES, sellable=SELLABLE):
        left = left.filter(rule.keep_mask(left, users))
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
    made = rules.build_training_filters(RuleSettings(), KNOWN, sources=["popular"], sellable=SELLABLE)
    left = pairs()
    for rule in made:
        left = left.filter(rule.keep_mask(left, histories([[1], [5]])))
    assert left.item[left.user == 0].tolist() == [0, 3, 4, 5]


def test_purchases_before_the_end_of_the_history_count_too():
    short = KNOWN.histories(np.array([0, 1]), 1)
    assert short.items.tolist() == [[3], [-1]]
    assert purchase_filters.purchased_pairs(short, KNOWN).tolist() == [1, 3]


def test_nobody_bought_anything():
    assert purchase_filters.purchased_pairs(histories([[], []]), KNOWN).tolist() == []


def all_pairs(users=2, n=6):
    """Every product for every user, all by `popular` alone."""
    user, item = np.repeat(np.arange(users), n), np.tile(np.arange(n), users)
    held = np.tile([False, True], (users * n, 1))
    return CandidatePairs(user, item, held, np.full(held.shape, -1))


def left_by(users, *, catalogue=None, known=KNOWN, now=START + 10 * DAY, **asked):
    """Products that stay of each user when all rules are asked."""
    shelf = catalogue or goods(6)
    made = rules.build_rules(RuleSettings(**asked), shelf, known, sources=SOURCES, now=now)
    left = all_pairs(len(users))
    for rule in made.filters:
        left = left.filter(rule.keep_mask(left, users))
    return [left.item[left.user == user].tolist() for user in range(len(users))], made


@pytest.mark.parametrize(
    ("days", "seen", "expected"),
    [
        # products 1 hats, 2 coats, 3 without a category; bought 9, 9 and 8 days ago
        ({"hats": 5}, "exclude", [0, 1, 4, 5]),
        ({"hats": 30}, "allow", [0, 2, 3, 4, 5]),
        ({"hats": 5, "*": 8.5}, "exclude", [0, 1, 2, 4, 5]),
        ({"*": 0}, "exclude", [0, 1, 2, 3, 4, 5]),
        ({"*": 30}, "allow", [0, 4, 5]),
        ({}, "exclude", [0, 4, 5]),
    ],
)
def test_a_product_comes_back_after_its_days_and_not_before(days, seen, expected):
    known = events([(0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 5, 0, 2)], n_users=2, n_items=6)
    (first, second), _ = left_by(known.histories(np.array([0, 1]), 5), known=known, replenish_days=days, seen=seen)
    assert first == expected and second == [0, 1, 2, 3, 4, 5], "what was only looked at is not barred"


def test_the_last_purchase_counts_also_when_the_history_shown_ends_before_it():
    known = events([(0, 1, 0), (0, 1, 8), (0, 2, 9)], n_users=1, n_items=6)
    for last in (1, 3):
        (left,), _ = left_by(known.histories(np.array([0]), last), known=known, replenish_days={"*": 5})
        assert left == [0, 3, 4, 5]
    (left,), _ = left_by(histories([[1]], now=START + 4 * DAY), replenish_days={"*": 5})
    assert left == [0, 1, 2, 3, 4, 5], "seven days ago, by the history alone"


def test_a_category_that_no_product_has_is_warned_about(caplog):
    left_by(histories([[1]]), replenish_days={"shoe": 3, "*": 1})
    assert "no product has the category 'shoe'; did you mean 'shoes'?" in caplog.text


PRICED = goods(6, price=pl.Series([1.0, 2.0, 4.0, 8.0, None, 16.0]))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"price_min": 2}, [1, 2, 3, 4, 5]),
        ({"price_max": 8}, [0, 1, 2, 3, 4]),
        ({"price_min": 2, "price_max": 4}, [1, 2, 4]),
        ({"exclude": ["p0001", "p0005"]}, [0, 2, 3, 4]),
        ({"include": ["p0001", "p0005"]}, [1, 5]),
        ({"include": ["p0001", "p0005"], "exclude": ["p0001"]}, [5]),
    ],
)
def test_rules_about_products_alone(asked, expected):
    (left,), made = left_by(histories([[]]), catalogue=PRICED, **asked)
    assert left == expected == np.flatnonzero(made.allowed_mask).tolist()


@pytest.mark.parametrize(
    ("bought", "factor", "expected"),
    [
        ([0, 2, 5], 2, [1, 2, 3, 4]),  # median 4
        ([1, 2], 2, [1, 2, 4]),  # median 3
        ([5, 4], 2.5, [3, 4, 5]),  # a product without a price is no part of the median
        ([4], 2, [0, 1, 2, 3, 4, 5]),  # nothing has a price
        ([], 2, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_price_band_lies_around_what_the_user_pays(bought, factor, expected):
    users = histories([bought, []])
    (first, second), made = left_by(users, catalogue=PRICED, price_factor=factor, seen="allow")
    assert first == expected and second == [0, 1, 2, 3, 4, 5]
    assert made.excluded_pairs(users).tolist() == [], "the fallback does not know the band"


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=5))
def test_medians_are_those_of_the_distinct_priced_products(lists):
    rule = PriceRangeFilter(KNOWN, prices=comparable_prices(PRICED), factor=2)
    own = [[PRICED.frame["price"][item] for item in set(bought)] for bought in lists]
    expected = [np.median([price for price in prices if price] or [np.nan]) for prices in own]
    np.testing.assert_array_equal(rule.median_prices(histories(lists)), expected)


def test_ids_that_no_product_has_are_warned_about(caplog):
    left_by(histories([[]]), exclude=["p001", "zzz"], include=["p0001"])
    assert "rules.exclude: there is no product 'p001' (and 1 more of its ids); did you mean 'p0001'?" in caplog.text


def test_prices_that_are_missing_or_of_several_currencies_are_warned_about(caplog):
    none = goods(6, price=pl.Series([None] * 6, dtype=pl.Float64))
    (left,), _ = left_by(histories([[]]), catalogue=none, price_min=3)
    assert left == [0, 1, 2, 3, 4, 5] and "no product has a price" in caplog.text
    left_by(histories([[]]), catalogue=goods(6, currency=["EUR", "USD"] * 3), price_factor=3)
    assert "several currencies" in caplog.text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"include": ["p0000"]}, "3 of 6 products are available, 0 after include; change"),
        ({"price_min": 12.2, "price_max": 12.8}, "2 after price_min, 0 after price_max; change"),
        ({"exclude": ["p0002", "p0003", "p0004"]}, "0 after exclude; change"),
    ],
)
def test_rules_that_leave_nothing_are_an_error(asked, said):
    shelf = goods(6, sellable=[False, False, True, True, True, False])
    with pytest.raises(ConfigError, match=f"the rules leave no product: .*{said}"):
        left_by(histories([[]]), catalogue=shelf, **asked)


def test_a_catalogue_of_which_nothing_is_sold_is_an_error():
    with pytest.raises(DataContractError, match="none of the 6 products is available"):
        left_by(histories([[]]), catalogue=goods(6, sellable=[False] * 6))


def test_the_ranker_is_fitted_under_the_lasting_rules_alone():
    asked = RuleSettings(include=["p0001"], caps={"brand": 1}, price_factor=2)
    made = rules.build_training_filters(asked, KNOWN, sources=SOURCES, sellable=SELLABLE)
    assert [rule.name for rule in made] == ["available_only", "seen"]
