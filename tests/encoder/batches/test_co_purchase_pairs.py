import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.interactions import Interactions
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from tests.encoder.shops import interactions

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 60)), max_size=40)
DAY = 86400


def log_of(events: list[tuple[int, int, int]]) -> Interactions:
    user, item, day = np.array(events, np.int64).reshape(-1, 3).T
    return Interactions.from_events(user=user, item=item, time=day * DAY, n_users=4, n_items=6)


@given(EVENTS, st.integers(0, 2**32 - 1))
def test_partners_are_what_some_user_bought_within_four_weeks(events: list[tuple[int, int, int]], seed: int) -> None:
    pairs = CoPurchasePairs.from_interactions(log_of(events))
    near = {(i, j) for u, i, s in events for v, j, t in events if u == v and i != j and abs(s - t) <= 28}
    rows = np.arange(6)
    for row, partner in zip(rows, pairs.sample(rows, np.random.default_rng(seed)), strict=True):
        assert partner == -1 or (row, partner) in near
        assert (partner == -1) == (pairs.starts[row] == pairs.starts[row + 1])


def test_near_purchases_are_drawn_more_often_and_the_frequency_is_known() -> None:
    pairs = CoPurchasePairs.from_interactions(log_of([(0, 0, 0), (0, 1, 0), (0, 2, 10), (1, 3, 5)]))
    drawn = pairs.sample(np.zeros(4000, np.int64), np.random.default_rng(0))
    share = (drawn == 1).mean()
    assert set(drawn) == {1, 2}
    assert abs(share - 1 / (1 + np.exp(-2))) < 0.03
    assert pairs.sample(np.array([3]), np.random.default_rng(0))[0] == -1
    np.testing.assert_allclose(np.exp(pairs.log_batch_frequency).sum(), 1, rtol=1e-5)


@given(EVENTS)
def test_known_pairs_are_found_among_any_products(events: list[tuple[int, int, int]]) -> None:
    pairs = CoPurchasePairs.from_interactions(log_of(events))
    columns = np.array([5, -1, 0, 2, 2, 4])
    found = pairs.in_batch_matches(np.arange(6), columns)
    for row in range(6):
        partners = {row, *pairs.partners[pairs.starts[row] : pairs.starts[row + 1]].tolist()}
        assert found[row].tolist() == [column in partners for column in columns.tolist()]


def test_returns_do_not_count() -> None:
    log = interactions()
    nothing = Interactions.from_events(
        user=log.user,
        item=log.item,
        time=log.time,
        weight=np.zeros(len(log), np.float32),
        n_users=log.n_users,
        n_items=48,
    )
    assert len(CoPurchasePairs.from_interactions(log)) > 0
    assert len(CoPurchasePairs.from_interactions(nothing)) == 0
