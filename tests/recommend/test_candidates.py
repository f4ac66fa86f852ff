from __future__ import annotations

import numpy as np
import pytest

from recsys.data import tfidf as words
from recsys.recommend.candidates.co_purchase import CoPurchaseSource, cosine_neighbours
from recsys.recommend.candidates.content import ContentSource
from recsys.recommend.candidates.popular import PopularSource
from recsys.recommend.candidates.repurchase import RepurchaseSource
from recsys.recommend.candidates.sequence import SequenceSource
from tests import oracles
from tests.recommend.shops import DAY, START, StubModel, catalogue, events, interactions, vectors
from tests.recommend.sourced import KNOWN, NOW, SELLABLE, N, propose, weighed
from tests.suites import CandidateSourceSuite


class Bound:
    def item_vectors(self, content):
        return content

    user_vectors = StubModel.user_vectors


class TestCoPurchase(CandidateSourceSuite):
    known, now = KNOWN, NOW

    def make(self):
        return CoPurchaseSource(KNOWN)


class TestContent(CandidateSourceSuite):
    known, now, sellable, searched = KNOWN, NOW, SELLABLE, True

    def make(self):
        return ContentSource(
            vectors(N), words.product_tfidf(catalogue(N)), history_items=np.unique(KNOWN.item), sellable=SELLABLE
        )


class TestPopular(CandidateSourceSuite):
    known, now, sellable, for_everybody = KNOWN, NOW, SELLABLE, True

    def make(self):
        return PopularSource(KNOWN, now=NOW, days=7, sellable=SELLABLE)


class TestRepurchase(CandidateSourceSuite):
    known, now = KNOWN, NOW

    def make(self):
        return RepurchaseSource()


class TestSequence(CandidateSourceSuite):
    known, now, sellable = KNOWN, NOW, SELLABLE

    def make(self):
        return SequenceSource(Bound(), vectors(N), sellable=SELLABLE)


# --- co_purchase


@pytest.mark.parametrize(("shrinkage", "own_share"), [(0.1, 0.5), (10.0, 0.7)])
def test_item_item_equals_the_slow_cosine(shrinkage, own_share):
    known = interactions(days=1)
    baskets = [known.item[known.starts[u] : known.starts[u + 1]].tolist() for u in range(known.n_users)]
    found = cosine_neighbours(
        known, shrinkage=shrinkage, source_exponent=own_share, half_life_days=1e9, n_neighbours=100
    )
    expected = oracles.item_item(baskets, known.n_items, shrinkage, own_share)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-6)


def test_old_purchases_bind_less_than_new_ones():
    rows = [(u, i, 0) for u in range(5) for i in (0, 1)] + [(u, i, 400) for u in range(5, 10) for i in (0, 2)]
    near = cosine_neighbours(
        events(rows, n_users=10, n_items=3), shrinkage=1, source_exponent=0.5, half_life_days=200, n_neighbours=10
    ).toarray()
    assert near[0, 2] > near[0, 1] > 0


def test_only_the_strongest_neighbours_are_kept_ties_by_row():
    rows = [(0, i, 0) for i in range(6)]
    near = cosine_neighbours(
        events(rows, n_users=1, n_items=6), shrinkage=1, source_exponent=0.5, half_life_days=9, n_neighbours=2
    )
    assert near[5].indices.tolist() == [0, 1] and near[0].indices.tolist() == [1, 2]


def test_what_was_returned_binds_nothing():
    rows = [(0, 0, 0, 0), (0, 1, 0, 5)]
    near = cosine_neighbours(
        events(rows, n_users=1, n_items=2), shrinkage=1, source_exponent=0.5, half_life_days=9, n_neighbours=2
    )
    assert near.nnz == 0


# --- repurchase


def test_repurchase_ranks_recent_then_frequent():
    assert propose(RepurchaseSource(), [[3, 1, 2]]) == [[2, 1, 3]]
    # 8 was bought six times up to 7 days ago, 9 once two days before them
    assert propose(RepurchaseSource(), [[9, 8, 8, 8, 8, 8, 8]])[0] == [8, 9]


def test_repurchase_leaves_out_views():
    assert propose(RepurchaseSource(), [[1, 2, 3]], kinds=[[2, 0, 1]]) == [[2]]


# --- popular


def test_popular_counts_the_last_days_then_all_time_then_the_rest():
    rows = [(u, 0, 0) for u in range(9)] + [(0, 1, 20), (1, 2, 20), (2, 2, 20)]
    source = PopularSource(events(rows, n_users=9, n_items=5), now=START + 21 * DAY, days=7)
    assert source.ranked_items.tolist() == [2, 1, 0, 3, 4]


def test_popular_today_counts_more_than_popular_a_week_ago():
    rows = [(u, 0, 15) for u in range(3)] + [(u, 1, 20) for u in range(3)]
    assert PopularSource(events(rows, n_users=3, n_items=2), now=START + 21 * DAY, days=7).ranked_items.tolist() == [
        1,
        0,
    ]


def test_popular_knows_no_product_that_is_not_sold():
    source = PopularSource(KNOWN, now=NOW, days=7, sellable=SELLABLE)
    assert sorted(source.ranked_items.tolist()) == np.flatnonzero(SELLABLE).tolist()


# --- content


def test_content_finds_the_same_words_and_the_same_look():
    titles = ["red wool hat", "red wool hat long", "green shirt", "blue dress", "blue coat"]
    look = np.eye(5, 8, dtype=np.float32)
    look[4] = look[2]
    shop = catalogue(5, titles=titles)
    shop = type(shop)(shop.ids, shop.frame.select("product_id", "title"), shop.sellable, shop.images)
    source = ContentSource(look, words.product_tfidf(shop), history_items=np.arange(2))
    assert propose(source, [[0]])[0] == [1]
    assert propose(source, [[2]])[0] == [4]  # by look; not searched for before, and found all the same


def test_content_answers_the_same_whether_touched_before_or_not():
    every, none = (
        ContentSource(vectors(N), words.product_tfidf(catalogue(N)), history_items=touched)
        for touched in (np.arange(N), np.zeros(0, np.int64))
    )
    lists = [[1, 5, 9], [], [30]]
    assert propose(every, lists, k=20) == propose(none, lists, k=20)


def test_content_weighs_each_product_of_the_history_by_the_similarity_of_the_two():
    source = ContentSource(vectors(N), words.product_tfidf(catalogue(N)), history_items=np.arange(N), decay=0.5)
    found = weighed(source, [[4, 9, 2], []])
    for item in range(N):
        own = [(4, 0.25), (9, 0.5), (2, 1.0)]
        near = [w * float(source.similarity(np.array([item]), np.array([o]))[0]) for o, w in own if o != item]
        assert found[0, item] == pytest.approx(sum(near), abs=1e-5)


def test_a_product_is_nothing_like_itself_with_words_or_without():
    titles = ["", "red hat"] + ["coat"] * (N - 2)
    shop = catalogue(N, titles=titles)
    shop = type(shop)(shop.ids, shop.frame.select("product_id", "title"), shop.sellable, shop.images)
    source = ContentSource(np.eye(N, dtype=np.float32), words.product_tfidf(shop), history_items=np.arange(N))
    found = weighed(source, [[0], [1], [0, 1]])
    assert (found[:, :2] == 0).all()
    assert (found >= 0).all()


# --- sequence


def test_sequence_ranks_by_inner_product_with_the_users_vector():
    items = vectors(N)
    source = SequenceSource(Bound(), items, sellable=SELLABLE)
    expected = oracles.nearest(items, items[[4, 7]], 5, SELLABLE)
    assert propose(source, [[4], [], [7]]) == [
        [row for _, row in expected[0]],
        [],
        [row for _, row in expected[1]],
    ]
