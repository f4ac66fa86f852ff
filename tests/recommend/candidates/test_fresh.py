from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.interactions import DEFAULT_TYPE_WEIGHTS
from recsys.data.product_columns import new_product_mask
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.fresh import NewProductSource
from recsys.recommend.candidates.source import UserBatch
from tests import oracles
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, catalogue, events, histories, vectors
from tests.recommend.sourced import KNOWN, NOW, SELLABLE, N, propose, weighed
from tests.suites import CandidateSourceSuite

NEW = np.arange(N) % 3 == 1


class TestFresh(CandidateSourceSuite):
    known, now, sellable = KNOWN, NOW, SELLABLE

    def make(self):
        return NewProductSource(vectors(N), NEW, sellable=SELLABLE)


own = st.lists(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 5)), max_size=9), min_size=1, max_size=4)


@given(events=own)
def test_it_is_the_largest_cosine_with_what_the_user_had_and_no_less_than_nothing(events):
    lists, kinds = ([[event[at] for event in user] for user in events] for at in (0, 1))
    users = histories(lists, kinds=kinds)
    found = weighed(NewProductSource(vectors(N), NEW, max_history=4, decay=0.5), lists, kinds=kinds)
    for user in range(len(events)):
        signs = oracles.taste(
            users.items[user], users.event_types[user], 4, 0.5, list(DEFAULT_TYPE_WEIGHTS), RETURN_CODE
        )
        weights = {item: weight for item, (weight, _) in signs.items()}
        np.testing.assert_allclose(found[user], oracles.fresh(weights, vectors(N).tolist(), NEW), atol=1e-6)


def test_a_proposal_stems_from_the_product_it_resembles_most():
    content = np.eye(N, dtype=np.float32)
    content[30], content[31] = content[4], content[7]
    new = np.isin(np.arange(N), [30, 31, 32])
    found = NewProductSource(content, new).retrieve(UserBatch(histories([[4, 7], [8]]), NOW), 5)
    assert list(zip(found.user, found.item, found.source_item, strict=True)) == [(0, 30, 4), (0, 31, 7)]
    assert found.score.tolist() == pytest.approx([0.9, 1.0])


def test_without_a_new_product_it_proposes_nothing():
    assert propose(NewProductSource(vectors(N), np.zeros(N, bool)), [[1, 2], []]) == [[], []]


# --- which products are new


@pytest.mark.parametrize("typed", [False, True])
@given(
    created=st.lists(st.none() | st.integers(0, 40), min_size=4, max_size=4),
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 39)), min_size=1, max_size=6),
)
def test_new_by_creation_else_by_first_event_else_always(typed, created, rows):
    moments = [None if day is None else START + day * DAY for day in created]
    if typed:
        values = [None if one is None else datetime.fromtimestamp(one, UTC) for one in moments]
        column = pl.Series(values, dtype=pl.Datetime("us", "UTC"))
    else:
        column = pl.Series(moments, dtype=pl.Int64)
    first = [min((START + day * DAY for _, i, day in rows if i == item), default=None) for item in range(4)]
    now = START + 40 * DAY
    found = new_product_mask(goods(4, created_at=column), events(rows, n_users=2, n_items=4), now=now, days=14)
    assert found.dtype == np.bool_
    assert found.tolist() == oracles.new_products(moments, first, now, 14)


def test_a_catalogue_without_dates_goes_by_events():
    known = events([(0, 0, 0), (0, 1, 30), (1, 0, 39)], n_users=2, n_items=3)
    found = new_product_mask(catalogue(3), known, now=START + 40 * DAY, days=14)
    assert found.tolist() == [False, True, True]
