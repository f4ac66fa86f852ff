from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.interactions import Interactions
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.transitions import TransitionSource, transition_shares
from tests import oracles
from tests.recommend.shops import DAY, START, events
from tests.recommend.sourced import KNOWN, NOW, propose
from tests.suites import CandidateSourceSuite


class TestTransitions(CandidateSourceSuite):
    known, now = KNOWN, NOW

    def make(self):
        return TransitionSource(KNOWN)


def near(rows, *, n=6, steps=5, half_life=1e9, keep=100, **columns):
    """Dense neighbours after (user, item, day) rows."""
    known = events(rows, n_users=max(row[0] for row in rows) + 1, n_items=n)
    return transition_shares(known, max_steps=steps, half_life_days=half_life, n_neighbours=keep, **columns).toarray()


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6), st.sampled_from([0, 0, 2, 5])),
        min_size=1,
        max_size=40,
    ),
    steps=st.integers(1, 4),
    half_life=st.sampled_from([1e9, 3.0]),
)
def test_followers_equal_the_slow_count_of_steps(rows, steps, half_life):
    kept = [row for row in rows if row[3] != RETURN_CODE]
    newest = max((day for _, _, day, _ in kept), default=0)
    histories = [
        [(day, item, 0.5 ** ((newest - day) / half_life)) for owner, item, day, _ in kept if owner == user]
        for user in range(5)
    ]
    expected = oracles.transitions(histories, 6, steps)
    np.testing.assert_allclose(near(rows, steps=steps, half_life=half_life), expected, atol=1e-6)


def test_what_came_after_does_not_lead_back():
    found = near([(0, 1, 0), (0, 2, 1)])
    assert found[1, 2] == 1 and found[2, 1] == 0 and np.count_nonzero(found) == 1


def test_a_step_is_a_change_of_moment_however_long_and_two_steps_count_half():
    found = near([(0, 0, 0), (0, 1, 300), (0, 2, 301)])
    np.testing.assert_allclose(found[0, [1, 2]], [2 / 3, 1 / 3], rtol=1e-6)


def test_products_of_one_basket_lead_to_none_of_each_other_and_stand_on_one_step():
    found = near([(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 1), (0, 4, 2)])
    assert found[0, 1] == found[1, 0] == found[2, 3] == found[3, 2] == 0
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(found[0, [2, 3, 4]], [0.4, 0.4, 0.2], rtol=1e-6)


def test_no_step_leads_from_one_user_to_the_next():
    assert not near([(0, 0, 0), (1, 1, 1), (2, 2, 2)]).any()


def test_moments_further_ahead_than_asked_do_not_count():
    rows = [(0, item, item) for item in range(6)]
    assert np.flatnonzero(near(rows, steps=2)[0]).tolist() == [1, 2]
    assert np.flatnonzero(near(rows, steps=5)[0]).tolist() == [1, 2, 3, 4, 5]


def test_an_old_step_counts_less_than_a_new_one():
    found = near([(0, 0, 0), (0, 1, 1), (1, 0, 400), (1, 2, 401)], half_life=200)
    assert found[0, 2] == pytest.approx(4 / 5) and found[0, 1] == pytest.approx(1 / 5)


def test_a_row_is_a_share_of_everything_that_followed_also_of_what_is_not_kept():
    rows = [(user, 0, 0) for user in range(4)] + [(user, (1, 1, 2, 3)[user], 1) for user in range(4)]
    found = near(rows, keep=2)
    np.testing.assert_allclose(found[0], [0, 0.5, 0.25, 0, 0, 0])


def test_events_that_are_worth_nothing_lead_nowhere():
    known = Interactions.from_events(
        user=np.zeros(2, np.int64),
        item=np.arange(2),
        time=START + DAY * np.arange(2),
        weight=np.array([1.0, 0.0]),
        n_users=1,
        n_items=2,
    )
    found = transition_shares(known, max_steps=5, half_life_days=9, n_neighbours=5)
    assert np.isfinite(found.data).all() and not found.toarray().any()


@pytest.mark.parametrize("rows", [[(0, 1, 0)], [(0, 1, 0), (0, 2, 0)], [(0, 1, 0, RETURN_CODE), (0, 2, 1)]])
def test_nothing_followed(rows):
    assert not near(rows).any()


def test_it_proposes_what_others_took_next():
    rows = [(user, item, item) for user in range(3) for item in range(4)]
    source = TransitionSource(events(rows, n_users=3, n_items=40), decay=0.5)
    assert propose(source, [[0], [3], []]) == [[1, 2, 3], [], []]
