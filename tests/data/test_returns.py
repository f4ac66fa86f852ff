"""Returns against a slow oracle, and the events as they were known at any time against what was known then."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.holdout import time_split
from recsys.data.interactions import Interactions
from recsys.data.returns import cancel_returned
from recsys.data.schema import EVENT_TYPES, PURCHASE_CODE, RETURN_CODE
from recsys.evaluate.split import leave_one_out

VIEW = EVENT_TYPES.index("view")
USERS, ITEMS = 2, 3
ROWS = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        st.integers(0, ITEMS - 1),
        st.integers(1, 12),
        st.sampled_from([PURCHASE_CODE, PURCHASE_CODE, RETURN_CODE, RETURN_CODE, VIEW]),
        st.sampled_from([1.0, 2.0, 0.35, 10.0]),
        st.integers(-1, 2),
    ),
    max_size=25,
)


def net(rows):
    """The events after returns, in the order of the store: by user, time, product, type."""
    rows = sorted(rows, key=lambda row: (row[0], row[2], row[1], EVENT_TYPES[row[3]]))
    columns = [np.array([row[i] for row in rows], float if i == 4 else np.int64) for i in range(6)]
    user, item, time, kind, quantity, order = columns
    netted = cancel_returned(
        user=user, item=item, time=time, event_type=kind, quantity=quantity, order=order, type_weight=1.0
    )
    keep = netted.keep
    events = Interactions.from_events(
        user=user[keep],
        item=item[keep],
        time=time[keep],
        event_type=kind[keep],
        weight=netted.quantity[keep].astype(np.float32),
        n_users=USERS,
        n_items=ITEMS,
        versions=netted.versions,
    )
    return events, netted


def oracle(rows):
    """`[(user, item, time, left)]` of the purchases and the pairs with nothing left, one return after the other."""
    rows = sorted(rows, key=lambda row: (row[0], row[2], row[1], EVENT_TYPES[row[3]]))
    purchases, returned = [], set()
    for user, item, time, kind, quantity, order in sorted(rows, key=lambda row: (row[2], row[3] == RETURN_CODE)):
        own = [one for one in purchases if one["key"] == (user, item)]
        if kind == PURCHASE_CODE:
            purchases.append({"key": (user, item), "time": time, "left": quantity, "order": order})
            returned.discard((user, item))
        elif kind == RETURN_CODE:
            same = [one for one in own if order >= 0 and one["order"] == order][::-1]
            for one in [*same, *(other for other in own[::-1] if other not in same)]:
                taken = min(quantity, one["left"])
                one["left"] = one["left"] - taken if one["left"] - taken > 1e-6 else 0.0
                quantity = max(0.0, quantity - taken)
            if all(one["left"] == 0 for one in own):
                returned.add((user, item))
    left = [(*one["key"], one["time"], one["left"]) for one in purchases if one["left"]]
    return sorted(left), sorted(returned)


def described(events):
    return [getattr(events, name).tolist() for name in ("user", "item", "time", "event_type", "weight")]


@given(rows=ROWS)
def test_returns_take_from_their_order_first_then_from_the_latest_purchases(rows):
    events, _ = net(rows)
    assert not (events.event_type == RETURN_CODE).any()
    bought = events.where(events.event_type == PURCHASE_CODE)
    found = sorted(zip(bought.user.tolist(), bought.item.tolist(), bought.time.tolist(), bought.weight, strict=True))
    assert events.last_time <= max((row[2] for row in rows), default=-1)  # sent back in the second of the purchase
    assert described(events.as_of(events.last_time + 1)) == described(events)
    left, returned = oracle(rows)
    assert [row[:3] for row in found] == [row[:3] for row in left]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in left], abs=1e-5)
    assert list(zip(*(part.tolist() for part in events.returned_pairs()), strict=True)) == returned


@given(rows=ROWS, cuts=st.lists(st.integers(0, 14), min_size=1, max_size=3))
def test_the_events_before_a_time_are_what_was_known_then(rows, cuts):
    events, _ = net(rows)
    for cut in sorted(cuts, reverse=True):  # also what was known of what was known
        events = events.as_of(cut)
        then, _ = net([row for row in rows if row[2] < cut])
        assert described(events) == described(then)
        assert [part.tolist() for part in events.returned_pairs()] == [part.tolist() for part in then.returned_pairs()]


@given(rows=ROWS, cuts=st.tuples(st.integers(0, 14), st.integers(0, 14)))
def test_each_user_may_have_another_time(rows, cuts):
    events = net(rows)[0].as_of(np.array(cuts))
    for user, cut in enumerate(cuts):
        mine = np.arange(USERS) == user
        assert described(events.of_users(mine)) == described(net(rows)[0].as_of(cut).of_users(mine))


def test_one_pack_of_ten_sent_back_leaves_nine():
    events, netted = net([(0, 0, 1, PURCHASE_CODE, 10.0, -1), (0, 0, 5, RETURN_CODE, 1.0, -1)])
    assert events.weight.tolist() == [9.0]
    assert events.as_of(5).weight.tolist() == [10.0]
    assert (netted.n_cancelled, netted.n_reduced, netted.n_unmatched) == (0, 1, 0)
    assert not len(events.returned_pairs()[0])


def test_a_return_names_its_order():
    rows = [(0, 0, 1, PURCHASE_CODE, 1.0, 7), (0, 0, 2, PURCHASE_CODE, 1.0, 8), (0, 0, 3, RETURN_CODE, 1.0, 7)]
    assert net(rows)[0].time.tolist() == [2]
    assert net([*rows[:2], (0, 0, 3, RETURN_CODE, 1.0, -1)])[0].time.tolist() == [1]


def test_returns_after_the_cut_cancel_targets_but_no_training_events():
    rows = [
        (0, 0, 1, PURCHASE_CODE, 1.0, -1),
        (0, 1, 2, PURCHASE_CODE, 1.0, -1),
        (0, 0, 11, RETURN_CODE, 1.0, -1),
        (0, 2, 10, PURCHASE_CODE, 1.0, -1),
        (1, 1, 2, PURCHASE_CODE, 1.0, -1),
        (1, 2, 10, PURCHASE_CODE, 1.0, -1),
        (1, 2, 12, RETURN_CODE, 1.0, -1),
    ]
    train, cases = time_split(net(rows)[0], 10)
    assert train.item.tolist() == [0, 1, 1]
    assert cases.histories.users.tolist() == [0]
    assert [items.tolist() for items in cases.targets] == [[2]]


def test_the_split_by_last_purchase_knows_what_was_known_before_the_target():
    rows = [
        (0, 0, 1, PURCHASE_CODE, 1.0, -1),
        (0, 1, 5, PURCHASE_CODE, 2.0, -1),
        (0, 0, 6, RETURN_CODE, 1.0, -1),
        (0, 1, 7, RETURN_CODE, 1.0, -1),
        (0, 2, 8, PURCHASE_CODE, 1.0, -1),
        (0, 2, 9, RETURN_CODE, 1.0, -1),
        (1, 0, 1, PURCHASE_CODE, 1.0, -1),
        (1, 0, 9, RETURN_CODE, 1.0, -1),
    ]
    train, cases, back = leave_one_out(net([*rows, (0, 2, 2, VIEW, 1.0, -1)])[0])
    assert [items.tolist() for items in cases.targets] == [[1]]  # the purchase on day 8 was sent back
    assert cases.histories.items.tolist() == [[0, 2]]
    assert back.sum() == 1
    assert [train.as_of(cut).item[: train.as_of(cut).starts[1]].tolist() for cut in (2, 5, 6, 100)] == [
        [0],
        [0, 2],
        [0, 2],
        [0, 2],
    ]


def test_many_returns_of_one_product_are_matched_in_time():
    rows = [(0, 0, 2 * day, PURCHASE_CODE, 2.0, -1) for day in range(1, 600)]
    rows += [(0, 0, 2 * day + 1, RETURN_CODE, 1.0, -1) for day in range(1, 600)]
    events, netted = net(rows)
    assert (events.weight == 1.0).all() and len(events) == 599
    assert netted.n_reduced == 599
