"""The choice of places against slow and obvious versions, one user at a time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.product_columns import category_codes, new_product_mask
from recsys.errors import ConfigError
from recsys.recommend.recommendations import non_increasing_scores
from recsys.recommend.rules.list_constraints import MaxPerValue, MinNewProducts, RankedPool, select_greedy
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, events

N = 12
# Scores on a grid, so that many tie; user 1 of three has no candidate now and then.
pools = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, N - 1), st.integers(-2, 2)),
    max_size=30,
    unique_by=lambda row: row[:2],
)
values = st.lists(st.integers(-1, 3), min_size=N, max_size=N)


def pool_of(rows):
    user, item, score = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    return RankedPool.from_candidates(user, item, score.astype(np.float32), n_users=3)


def best_first(rows, user):
    return [item for _, item in sorted((-score, item) for owner, item, score in rows if owner == user)]


def items(pool, choice):
    return [[int(pool.item[user, at]) for at in row if at >= 0] for user, row in enumerate(choice.column)]


@given(rows=pools, k=st.integers(1, 8))
def test_without_rules_the_best_come_first(rows, k):
    pool = pool_of(rows)
    found = items(pool, select_greedy(pool, k, constraints=[], gain=None))
    assert found == [best_first(rows, user)[:k] for user in range(3)]


@given(rows=pools, k=st.integers(1, 8), one=values, two=values, most=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_caps_skip_what_is_over_them_and_fall_back_to_it(rows, k, one, two, most):
    pool = pool_of(rows)
    caps = [MaxPerValue("one", most[0], np.array(one)), MaxPerValue("two", most[1], np.array(two))]
    choice = select_greedy(pool, k, constraints=caps, gain=None)
    over = 0
    for user, found in enumerate(items(pool, choice)):
        within, spared = [], []
        for item in best_first(rows, user):
            full = any(
                codes[item] >= 0 and sum(codes[other] == codes[item] for other in within) >= bound
                for codes, bound in ((one, most[0]), (two, most[1]))
            )
            (spared if full or len(within) == k else within).append(item)
        filled = [item for item in spared][: k - len(within)]
        assert found == within + filled
        over += len(filled)
    assert choice.n_over_cap == over


def test_places_that_a_cap_moves_are_counted_by_rule():
    rows = [(0, item, 10 - item) for item in range(8)]
    codes = np.array([0, 0, 0, 1, 1, 1, -1, -1, -1, -1, -1, -1])
    pool = pool_of(rows)
    choice = select_greedy(
        pool, 4, constraints=[MaxPerValue("brand", 1, codes), MaxPerValue("other", 9, codes)], gain=None
    )
    assert items(pool, choice)[0] == [0, 3, 6, 7]
    # of the four best, 1 and 2 gave way
    assert choice.moved_counts == {"caps.brand": 2, "caps.other": 0} and choice.n_over_cap == 0


@given(rows=pools, k=st.integers(1, 8), least=st.integers(0, 9), new=st.lists(st.booleans(), min_size=N, max_size=N))
def test_new_products_displace_the_lowest_ranked(rows, k, least, new):
    pool = pool_of(rows)
    choice = select_greedy(pool, k, constraints=[MinNewProducts(least, np.array(new))], gain=None)
    for user, found in enumerate(items(pool, choice)):
        ranked = best_first(rows, user)
        fresh, rest = [item for item in ranked if new[item]], [item for item in ranked if not new[item]]
        # As many new ones as asked and as there are; then the best of the rest; all in the ranker's order.
        promised = fresh[: min(least, k)]
        others = [item for item in ranked if item not in promised][: k - len(promised)]
        assert sorted(found) == sorted(promised + others)
        if len(ranked) >= k and len(fresh) >= min(least, k):
            assert found == sorted(found, key=ranked.index)
        assert len(found) == min(k, len(fresh) + len(rest))


def test_a_cap_weighs_more_than_a_new_product():
    rows = [(0, item, 10 - item) for item in range(6)]
    codes, new = np.array([0, 1, 2, 3, 0, 0] + [-1] * 6), np.arange(N) >= 4
    pool = pool_of(rows)
    choice = select_greedy(pool, 3, constraints=[MaxPerValue("brand", 1, codes), MinNewProducts(2, new)], gain=None)
    assert items(pool, choice)[0] == [0, 1, 2], "both new products are of a brand that is in the list already"
    choice = select_greedy(pool, 3, constraints=[MaxPerValue("brand", 2, codes), MinNewProducts(2, new)], gain=None)
    assert items(pool, choice)[0] == [0, 4, 1], "one of them fits"


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4), st.permutations(range(5))
)
def test_scores_fall_along_rearranged_lists(scores, order):
    score, item = np.array(scores, np.float32), np.tile(order, (len(scores), 1))
    out = non_increasing_scores(score, item)
    for mine, own, row in zip(out, score, item, strict=True):
        pairs = list(zip((-mine).tolist(), row.tolist(), strict=True))
        assert pairs == sorted(pairs), "by falling score, ties by row"
        assert (mine <= own).all() and mine[0] == own[0] and (own.min() - mine.min()) < 1e-5
        if list(zip((-own).tolist(), row.tolist(), strict=True)) == sorted(
            zip((-own).tolist(), row.tolist(), strict=True)
        ):
            assert mine.tobytes() == own.tobytes(), "a list in the ranker's order stays as it is"


def test_values_of_a_column_are_told_apart_and_missing_ones_are_none():
    shelf = goods(8)
    codes = category_codes(shelf, "category", setting="x")
    assert (codes[3::4] == -1).all() and len(set(codes[:3].tolist())) == 3 and codes[0] == codes[4]
    assert category_codes(shelf, "colour", setting="x").tolist() == [1, 0] * 4
    assert category_codes(shelf, "price", setting="x").max() == 7
    none = goods(3, brand=pl.Series([None] * 3, dtype=pl.String))
    assert category_codes(none, "brand", setting="x").tolist() == [-1] * 3


def test_an_unknown_column_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"rules.caps: unknown column 'brnd'; did you mean 'brand'\?"):
        category_codes(goods(3), "brnd", setting="rules.caps")
    with pytest.raises(ConfigError, match="unknown column 'zzz'; there are product_id, title"):
        category_codes(goods(3), "zzz", setting="rules.caps")


def test_what_is_new_is_told_by_date_or_else_by_events():
    now = START + 100 * DAY
    created = pl.Series([START + 99 * DAY, START, None, None, None, None], dtype=pl.Int64)
    # 2 sold long ago, 3 sold lately for the first time, 4 never, 5 looked at long ago but never sold
    known = events([(0, 0, 1), (0, 2, 1), (0, 2, 99), (0, 3, 95), (0, 5, 1, 2)], n_users=1, n_items=6)
    assert new_product_mask(goods(6, created_at=created), known, days=10, now=now, unsold=True).tolist() == [
        1,
        0,
        0,
        1,
        1,
        1,
    ]
    undated = goods(6)
    undated = type(undated)(undated.ids, undated.frame.drop("created_at"), undated.sellable, undated.images)
    assert new_product_mask(undated, known, days=10, now=now, unsold=True).tolist() == [0, 1, 0, 1, 1, 1]
