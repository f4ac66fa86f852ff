from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.interactions import DEFAULT_TYPE_WEIGHTS
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.cluster import ClusterSource
from tests import oracles
from tests.recommend.shops import histories
from tests.recommend.sourced import KNOWN, NOW, SELLABLE, N, propose, weighed
from tests.suites import CandidateSourceSuite

GROUPS = np.arange(N) % 5
SOLD = (np.arange(N) * 7 % 11).astype(np.float32)  # some products are not sold at all


class TestCluster(CandidateSourceSuite):
    known, now, sellable = KNOWN, NOW, SELLABLE

    def make(self):
        return ClusterSource(GROUPS, SOLD, sellable=SELLABLE)


own = st.lists(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 5)), max_size=9), min_size=1, max_size=4)


@given(events=own)
def test_it_is_the_share_of_the_taste_times_the_share_of_the_sales(events):
    lists, kinds = ([[event[at] for event in user] for user in events] for at in (0, 1))
    users = histories(lists, kinds=kinds)
    found = weighed(ClusterSource(GROUPS, SOLD, max_history=4, decay=0.5), lists, kinds=kinds)
    for user in range(len(events)):
        signs = oracles.taste(
            users.items[user], users.event_types[user], 4, 0.5, list(DEFAULT_TYPE_WEIGHTS), RETURN_CODE
        )
        expected = oracles.cluster(
            {item: weight for item, (weight, _) in signs.items()}, GROUPS.tolist(), SOLD.tolist()
        )
        np.testing.assert_allclose(found[user], expected, rtol=1e-5, atol=1e-7)


def test_the_best_sold_of_a_group_come_first_and_one_group_gives_so_many():
    groups, sold = np.repeat([0, 1], [6, N - 6]), np.zeros(N, np.float32)
    sold[:6] = 1, 5, 5, 0, 2, 9
    assert propose(ClusterSource(groups, sold), [[3]]) == [[5, 1, 2, 4, 0]]
    assert propose(ClusterSource(groups, sold, n_per_cluster=2), [[3]]) == [[5, 1]]


def test_it_stems_from_the_newest_product_of_the_group():
    from recsys.recommend.candidates.source import UserBatch

    found = ClusterSource(GROUPS, SOLD + 1).retrieve(UserBatch(histories([[0, 5, 10, 1]]), NOW), N)
    because = {int(GROUPS[item]): int(stem) for item, stem in zip(found.item, found.source_item, strict=True)}
    assert because == {0: 10, 1: 1}


@pytest.mark.parametrize("sold", [np.zeros(N, np.float32), SOLD])
def test_nothing_sold_or_nothing_left_to_sell_proposes_nothing(sold):
    source = ClusterSource(GROUPS, sold, sellable=np.zeros(N, bool) if sold.any() else None)
    assert propose(source, [[1, 2], []]) == [[], []]
    assert np.isfinite(weighed(source, [[1, 2]])).all()
