from __future__ import annotations

from math import copysign, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend.candidates.source import Candidates, UserBatch, merge_candidates
from recsys.recommend.ranking import features
from recsys.recommend.ranking.statistics import ProductStatistics, UserStatistics
from tests import oracles
from tests.recommend.candidates.test_source import candidates, rows
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, events, histories, vectors

NAMES = features.feature_names(["one", "two"])
N = 9
LISTS = [[1], [], [2, 3], [4, 0, 7]]
NOW = START + 31 * DAY
USERS = UserBatch(histories(LISTS, now=NOW), NOW)
KNOWN = events([(0, 1, 0), (1, 1, 29), (1, 2, 30)], n_users=2, n_items=N)
PRODUCTS = ProductStatistics(goods(N), KNOWN, vectors(N), now=NOW, days=7)


class Said:
    """A source that says of a product what stands in a table, by how many events the user has."""

    def __init__(self, name, table):
        self.name, self.table = name, np.asarray(table, np.float32)

    def score(self, users, user, item):
        return self.table[users.histories.mask.sum(axis=1)[user], item]


def squashed(score):
    return copysign(log1p(abs(score)), score)


tables = st.lists(st.lists(st.integers(-3, 5), min_size=N, max_size=N), min_size=4, max_size=4)


@given(rows=rows, one=tables, two=tables)
def test_every_column_of_a_source_equals_the_slow_answer(rows, one, two):
    pairs = merge_candidates(candidates(rows), 2)
    x = features.FeatureExtractor([Said("one", one), Said("two", two)], PRODUCTS).transform(pairs, USERS)
    assert x.shape == (len(pairs), len(NAMES)) and x.dtype == np.float32 and np.isfinite(x).all()
    together = list(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True))
    for at, (user, item) in enumerate(together):
        for place, (name, table) in enumerate({"one": one, "two": two}.items()):
            count = len(LISTS[user])
            said = {other: table[count][other] for owner, other in together if owner == user}
            order = sorted(said, key=lambda other: (-said[other], other))
            relative = oracles.relative(said[item], list(said.values()))
            expected = {
                "relative": relative,
                "place": 1 / (1 + order.index(item)) if said[item] else 0,
                "held": float((user, item, place) in {row[:3] for row in rows}),
                "raw": squashed(said[item]),
                "newest": squashed(table[min(1, count)][item]),
                "by_history": relative * log1p(count),
                "by_popularity": relative * log1p({1: 2, 2: 1}.get(item, 0)),
            }
            assert 0 <= relative <= 1
            found = {part: x[at, NAMES.index(f"{name}.{part}")] for part in expected}
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_other_columns_are_the_facts_in_the_order_of_their_names():
    pairs = merge_candidates(candidates([(0, 1, 0, 1), (2, 3, 1, 1), (3, 8, 0, 2), (3, 0, 0, 2)]), 2)
    table = np.ones((4, N))
    x = features.FeatureExtractor([Said("one", table), Said("two", table)], PRODUCTS).transform(pairs, USERS)
    mine = UserStatistics(USERS, PRODUCTS)
    said = [
        *PRODUCTS.product_features(pairs.item),
        *mine.user_features(pairs.user),
        *mine.user_item_features(pairs.user, pairs.item),
    ]
    assert len(set(NAMES)) == len(NAMES)
    assert not any(name.startswith(("one.", "two.")) for name in NAMES[-len(said) :])
    np.testing.assert_array_equal(x[:, -len(said) :], np.stack(said, axis=1))
    column = {name: x[:, at].tolist() for at, name in enumerate(NAMES)}
    assert column["user.length"] == pytest.approx([log1p(1), log1p(2), log1p(3), log1p(3)])
    assert column["fit.again"] == pytest.approx([log1p(1), log1p(1), log1p(1), 0])
    assert column["product.never"] == [0, 1, 1, 1]


def test_names_of_sources_come_first_and_begin_with_the_source():
    names = features.feature_names(["popular", "content"])
    parts = [name.split(".")[1] for name in names if name.startswith("popular.")]
    assert names[: 2 * len(parts)] == [f"{source}.{part}" for source in ("popular", "content") for part in parts]
    assert {name.split(".")[0] for name in names[2 * len(parts) :]} == {"product", "user", "fit"}


def test_no_candidate_no_row():
    none = features.FeatureExtractor([Said("one", np.ones((4, N))), Said("two", np.ones((4, N)))], PRODUCTS)
    x = none.transform(merge_candidates(Candidates.empty(), 2), USERS)
    assert x.shape == (0, len(NAMES)) and x.dtype == np.float32
    assert none.transform(merge_candidates(Candidates.empty(), 2), UserBatch(histories([]), NOW)).shape == (
        0,
        len(NAMES),
    )
