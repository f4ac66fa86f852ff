from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.holdout import HoldoutCases, cutoff_for_fraction, time_split
from recsys.errors import UsageError
from recsys.evaluate.split import create_split, holdout_start, leave_last_of_test_users, leave_one_out
from tests.recommend.shops import DAY, START, events, histories, interactions

rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 9), st.sampled_from([0, 0, 2])),
    min_size=2,
    max_size=40,
)


@given(rows=rows, day=st.integers(1, 9))
def test_time_split_parts_past_and_future(rows, day):
    known, cut = events(rows, n_users=5, n_items=6), START + day * DAY
    before = [row for row in rows if row[2] < day]
    after = [row for row in rows if row[2] >= day and row[3] == 0]
    if not before or not after:
        with pytest.raises(UsageError, match="cut"):
            time_split(known, cut)
        return
    train, cases = time_split(known, cut)
    assert len(train) == len(before) and train.time.max() < cut and cases.now == cut
    assert cases.histories.users.tolist() == sorted({user for user, *_ in after})
    for at, user in enumerate(cases.histories.users.tolist()):
        assert cases.targets[at].tolist() == sorted({item for who, item, *_ in after if who == user})
        given = [item for item in cases.histories.items[at].tolist() if item >= 0]
        assert sorted(given) == sorted(item for who, item, *_ in before if who == user)
        assert (cases.histories.times[at] < cut).all()


@given(rows=rows)
def test_leave_last_gives_all_but_the_last_product(rows):
    known, users = events(rows, n_users=5, n_items=6), np.array([0, 2, 4])
    bought = {user: [] for user in users.tolist()}
    for at in range(len(known)):
        user, item = int(known.user[at]), int(known.item[at])
        if user in bought and known.event_type[at] == 0 and item not in bought[user]:
            bought[user].append(item)
    usable = {user: items for user, items in bought.items() if len(items) >= 2}
    if not usable:
        with pytest.raises(UsageError, match="two products"):
            leave_last_of_test_users(known, users)
        return
    train, cases = leave_last_of_test_users(known, users)
    assert not set(train.user.tolist()) & set(bought), "nothing of a test user is learned from"
    assert len(train) == sum(row[0] not in bought for row in rows)
    assert cases.histories.users.tolist() == sorted(usable)
    for at, items in enumerate(usable[user] for user in sorted(usable)):
        assert [item for item in cases.histories.items[at].tolist() if item >= 0] == items[:-1]
        assert cases.targets[at].tolist() == items[-1:]


def test_at_most_so_many_users_drawn_by_the_seed():
    known = interactions(days=10)
    cut = START + 6 * DAY
    one, two, other = (time_split(known, cut, max_users=9, seed=seed)[1] for seed in (1, 1, 2))
    assert len(one) == 9 and one.histories.users.tolist() == two.histories.users.tolist()
    assert one.histories.users.tolist() != other.histories.users.tolist()


def test_the_last_days_begin_at_midnight():
    known = events([(0, 0, 0), (0, 1, 9)], n_users=1, n_items=2)
    assert holdout_start(known, 1) == START + 9 * DAY
    assert holdout_start(known, 2) == START + 8 * DAY
    assert holdout_start(known, 0.5) == START + 9 * DAY - DAY // 2 + 1
    with pytest.raises(UsageError, match="no event"):
        holdout_start(known.where(np.zeros(2, bool)), 1)


@given(days=st.lists(st.integers(0, 20), min_size=2, max_size=60), fraction=st.floats(0.05, 0.8))
def test_the_newest_share_begins_at_a_whole_day_with_events_on_both_sides(days, fraction):
    known = events([(0, 0, day) for day in days], n_users=1, n_items=1)
    if len(set(days)) == 1:
        with pytest.raises(UsageError, match="one moment"):
            cutoff_for_fraction(known, fraction)
        return
    cut = cutoff_for_fraction(known, fraction)
    assert cut % DAY == 0 and known.time.min() < cut <= known.time.max()


def test_within_one_day_the_newest_share_begins_within_it():
    known = events([(0, 0, 0)] * 10, n_users=1, n_items=1)
    shifted = type(known).from_events(
        user=known.user, item=known.item, time=known.time + np.arange(10), n_users=1, n_items=1
    )
    assert cutoff_for_fraction(shifted, 0.3) == START + 7


def test_cases_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="2 histories but 1 targets"):
        HoldoutCases(histories([[1], [2]]), (np.array([3]),), START)


@given(rows=rows)
def test_the_last_purchase_of_each_user_is_left_out(rows):
    known = events(rows, n_users=5, n_items=6)
    expected = {}
    for user in range(5):
        own = [at for at in range(len(known)) if known.user[at] == user]
        bought = [at for at in own if known.event_type[at] == 0]
        if bought and bought[-1] > own[0]:
            expected[user] = (bought[-1], [at for at in own if at < bought[-1]], [at for at in own if at >= bought[-1]])
    if not expected:
        with pytest.raises(UsageError, match="earlier event"):
            leave_one_out(known)
        return
    train, cases, back = leave_one_out(known)
    assert np.flatnonzero(back).tolist() == sorted(at for *_, late in expected.values() for at in late)
    assert len(train) == len(known) - back.sum() and cases.now == train.time.max() + 1
    assert cases.histories.users.tolist() == sorted(expected)
    for row, user in enumerate(sorted(expected)):
        target, before, _ = expected[user]
        assert cases.targets[row].tolist() == [known.item[target]]
        given = cases.histories.items[row]
        assert given[given >= 0].tolist() == known.item[before].tolist()


def test_all_targets_are_left_out_although_few_users_are_judged():
    known = interactions(days=10)
    train, cases, back = leave_one_out(known, max_users=5, seed=1)
    assert len(cases) == 5 and back.sum() > 20 and len(train) + back.sum() == len(known)
    assert leave_one_out(known, max_users=5, seed=1)[1].histories.users.tolist() == cases.histories.users.tolist()


def test_a_fifth_of_the_users_is_not_learned_from():
    known = interactions(days=10)
    parted = create_split("users", known, days=2, max_users=1000, seed=3)
    able = sum(len(np.unique(known.item[known.starts[u] : known.starts[u + 1]])) >= 2 for u in range(known.n_users))
    test = set(parted.cases.histories.users.tolist())
    assert len(test) == able // 5 and not test & set(parted.train.user.tolist())
    assert parted.cutoff is None and set(known.user[parted.held_out].tolist()) == test
    for row, user in enumerate(parted.cases.histories.users.tolist()):
        assert set(known.item[parted.held_out & (known.user == user)].tolist()) == set(
            parted.cases.targets[row].tolist()
        )
    assert len(create_split("users", known, days=2, max_users=2, seed=3).cases) == 2


def test_each_split_by_its_name():
    known = interactions(days=10)
    parted = create_split("time", known, days=2, max_users=1000, seed=0)
    assert parted.cutoff == holdout_start(known, 2) == parted.cases.now
    assert np.array_equal(parted.held_out, known.time >= parted.cutoff)
    assert create_split("last", known, days=2, max_users=1000, seed=0).cutoff is None
    with pytest.raises(UsageError, match="unknown split 'tine'; did you mean 'time'"):
        create_split("tine", known, days=2, max_users=10, seed=0)


@pytest.mark.parametrize(
    ("rows", "way", "said"),
    [
        ([(0, 0, 0), (1, 1, 9, 2)], "time", "from the cut"),  # a view, no purchase
        ([(0, 0, 9), (1, 1, 9)], "time", "before the cut"),  # all at one moment
        ([(0, 0, 9), (1, 1, 9)], "last", "earlier event"),  # everybody bought once
        ([(0, 0, 9), (0, 1, 9), (1, 0, 1), (1, 2, 2)], "users", "only 2 have two"),
    ],
)
def test_logs_that_cannot_be_parted_are_refused(rows, way, said):
    with pytest.raises(UsageError, match=said):
        create_split(way, events(rows, n_users=2, n_items=3), days=1, max_users=10, seed=0)


def test_at_one_moment_the_order_of_the_rows_decides():
    known = events([(0, 2, 5), (0, 0, 5), (0, 1, 5)], n_users=1, n_items=3)
    _, cases, _ = leave_one_out(known)
    assert cases.targets[0].tolist() == [2] and cases.histories.items[0].tolist() == [0, 1]
