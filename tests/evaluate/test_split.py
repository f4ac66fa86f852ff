from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UsageError
from recsys.evaluate.split import last_days, leave_last, time_split
from recsys.recommend.cases import Cases, newest
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
        if user in bought and known.kind[at] == 0 and item not in bought[user]:
            bought[user].append(item)
    usable = {user: items for user, items in bought.items() if len(items) >= 2}
    if not usable:
        with pytest.raises(UsageError, match="two products"):
            leave_last(known, users)
        return
    train, cases = leave_last(known, users)
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
    assert last_days(known, 1) == START + 9 * DAY
    assert last_days(known, 2) == START + 8 * DAY
    assert last_days(known, 0.5) == START + 9 * DAY - DAY // 2 + 1
    with pytest.raises(UsageError, match="no event"):
        last_days(known.where(np.zeros(2, bool)), 1)


@given(days=st.lists(st.integers(0, 20), min_size=2, max_size=60), fraction=st.floats(0.05, 0.8))
def test_the_newest_share_begins_at_a_whole_day_with_events_on_both_sides(days, fraction):
    known = events([(0, 0, day) for day in days], n_users=1, n_items=1)
    if len(set(days)) == 1:
        with pytest.raises(UsageError, match="one moment"):
            newest(known, fraction)
        return
    cut = newest(known, fraction)
    assert cut % DAY == 0 and known.time.min() < cut <= known.time.max()


def test_within_one_day_the_newest_share_begins_within_it():
    known = events([(0, 0, 0)] * 10, n_users=1, n_items=1)
    shifted = type(known).of(user=known.user, item=known.item, time=known.time + np.arange(10), n_users=1, n_items=1)
    assert newest(shifted, 0.3) == START + 7


def test_cases_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="2 histories but 1 targets"):
        Cases(histories([[1], [2]]), (np.array([3]),), START)
