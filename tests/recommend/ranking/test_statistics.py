from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.ranking.features import _PAIR_FEATURES, _PRODUCT_FEATURES, _USER_FEATURES
from recsys.recommend.ranking.statistics import ProductStatistics, UserStatistics
from tests import oracles
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, catalogue, events, histories, vectors

N = 14
PRICE = [None if row % 4 == 2 else 5.0 + 3 * row % 17 for row in range(N)]
BRAND = [None if row % 5 == 0 else "ABC"[row % 3] for row in range(N)]
GROUP = [None if row % 7 == 3 else f"g{row // 3}" for row in range(N)]
CATEGORY = [None if row % 6 == 1 else ["shoes", "hats"][row % 2] for row in range(N)]
GOODS = goods(
    N,
    price=pl.Series(PRICE, dtype=pl.Float64),
    brand=pl.Series(BRAND, dtype=pl.String),
    category=pl.Series(CATEGORY, dtype=pl.String),
    group_id=pl.Series(GROUP, dtype=pl.String),
)
CONTENT = vectors(N, 4)
# The last product never has an event.
rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, N - 2), st.integers(0, 1100), st.sampled_from([0, 0, 2, 5])),
    min_size=1,
    max_size=40,
)


def product_columns(held):
    """The columns of every product, by name."""
    return dict(zip(_PRODUCT_FEATURES, held.product_features(np.arange(N)), strict=True))


def facts(known, *, now, days=7.0, shop=GOODS):
    return ProductStatistics(shop, known, CONTENT, now=now, days=days)


@given(rows=rows, days=st.sampled_from([2.0, 7.0, 90.0]), later=st.integers(0, 400))
def test_what_is_said_of_a_product_equals_the_slow_answer(rows, days, later):
    now = START + (max(day for _, _, day, _ in rows) + later) * DAY + 1
    found = product_columns(facts(events(rows, n_users=4, n_items=N), now=now, days=days))
    plain = [(item, START + day * DAY) for _, item, day, kind in rows if kind != RETURN_CODE]
    for row in range(N):
        expected = oracles.product_facts(row, plain, now=now, days=days, price=PRICE, category=CATEGORY, group=GROUP)
        assert {name: column[row] for name, column in found.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


own = st.lists(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 5)), max_size=14), min_size=1, max_size=4)


@given(lists=own, seed=st.integers(0, 50))
def test_what_is_said_of_a_user_and_of_both_equals_the_slow_answer(lists, seed):
    g = np.random.default_rng(seed)
    now = START + 9 * DAY
    given_ = histories([[i for i, _ in user] for user in lists], kinds=[[k for _, k in user] for user in lists])
    held = UserStatistics(UserBatch(given_, now), facts(events([(0, 1, 0)], n_users=1, n_items=N), now=now))
    user = np.sort(g.integers(len(lists), size=25))
    item = g.integers(N, size=25)
    alone = dict(zip(_USER_FEATURES, held.user_features(user), strict=True))
    both = dict(zip(_PAIR_FEATURES, held.user_item_features(user, item), strict=True))
    for at in range(25):
        events_ = [
            (int(i), int(time))
            for i, time in zip(given_.items[user[at]], given_.times[user[at]], strict=True)
            if i >= 0
        ]
        expected = oracles.user_facts(events_, now=now, price=PRICE)
        assert {name: column[at] for name, column in alone.items()} == pytest.approx(expected, rel=1e-5, abs=1e-5)
        before = [i for i, _ in events_]
        expected = oracles.fit_facts(
            before,
            item[at],
            content=CONTENT.tolist(),
            price=PRICE,
            brand=BRAND,
            category=CATEGORY,
            group=GROUP,
        )
        assert {name: column[at] for name, column in both.items()} == pytest.approx(expected, rel=1e-5, abs=1e-5)


# --- season


def yearly(years, *, shoes_in=10):
    """A shoe (row 0) sells around one day of the year alone, a hat (row 3) all year round."""
    rows = [(0, 0, 365 * year + shoes_in) for year in range(years) for _ in range(8)]
    return rows + [(1, 3, day) for day in range(0, 365 * years, 20)]


@pytest.mark.parametrize("days", [100, 364])
def test_a_log_shorter_than_a_year_has_no_season(days):
    known = events([row for row in yearly(3) if row[2] < days], n_users=2, n_items=N)
    assert not facts(known, now=START + days * DAY).season.any()


def test_what_sells_in_this_month_of_the_year_is_in_season_and_half_a_year_later_out_of_it():
    known = events(yearly(3), n_users=2, n_items=N)
    now, later = (facts(known, now=START + int(3 * 365.25 + day) * DAY).season for day in (10, 190))
    assert now[0] > 0.5 > 0 > later[0]
    assert now[2] == now[0], "the category is in season, with every product of it"


def test_without_a_category_there_is_no_season():
    none = [row for row in range(N) if CATEGORY[row] is None]
    rows = [(0, none[0], 10)] * 20 + [(0, none[0], 375)] * 20 + yearly(3)
    held = facts(events(rows, n_users=2, n_items=N), now=START + int(3 * 365.25 + 10) * DAY)
    assert held.season.any() and not held.season[none].any()
    held = facts(events(rows, n_users=2, n_items=N), now=START + int(3 * 365.25 + 10) * DAY, shop=catalogue(N))
    assert not held.season.any(), "nor in a catalogue that has no such column"


# --- what is not known


def test_unknown_price_brand_and_category_count_nothing():
    bare = goods(
        N,
        price=pl.Series([None] * N, dtype=pl.Float64),
        brand=pl.Series([None] * N, dtype=pl.String),
        category=pl.Series([None] * N, dtype=pl.String),
    )
    users = UserBatch(histories([[1, 2, 1], []]), START)
    user, item = np.repeat([0, 1], N), np.tile(np.arange(N), 2)
    known = events([(0, 1, 0), (0, 2, 500)], n_users=1, n_items=N)
    for shop in (bare, catalogue(N), goods(N, price=pl.Series([0.0] * N), brand=None, category=None)):
        held = facts(known, now=START + 600 * DAY, shop=shop)
        mine = UserStatistics(users, held)
        columns = {
            **dict(zip(_PAIR_FEATURES, mine.user_item_features(user, item), strict=True)),
            **{f"user.{name}": column for name, column in zip(_USER_FEATURES, mine.user_features(user), strict=True)},
            **{f"product.{name}": column[item] for name, column in product_columns(held).items()},
        }
        for name in ("same_brand", "same_category", "dearer", "price_gap", "user.price", "user.spread"):
            assert not columns[name].any(), name
        assert not columns["product.price"].any() and not columns["product.season"].any()
        assert all(np.isfinite(column).all() for column in columns.values())


def test_a_user_without_history_is_like_nothing():
    users = UserBatch(histories([[], []]), START)
    held = UserStatistics(users, facts(events([(0, 1, 0)], n_users=1, n_items=N), now=START + DAY))
    user, item = np.repeat([0, 1], N), np.tile(np.arange(N), 2)
    assert not np.stack(held.user_features(user) + held.user_item_features(user, item)).any()


def test_no_event_at_all():
    known = events([(0, 1, 0)], n_users=1, n_items=N)
    held = product_columns(facts(known.where(np.zeros(1, bool)), now=START))
    assert (held["never"] == 1).all()
    assert not any(held[name].any() for name in ("lately", "ever", "age", "quiet", "trend", "season"))
