"""The promises of protocols as tests, run for every implementer: one suite a protocol, one section a room.

In: a subclass that says how to make one. Out: tests that pytest finds in the subclass.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.interactions import Interactions
from recsys.errors import TemporaryError, UsageError
from recsys.execution.shards import plan_shards
from recsys.recommend.candidates.source import UserBatch
from tests import oracles

# --- vectors ---------------------------------------------------------------------------------------------------------


def clustered(n: int, d: int, *, seed: int, groups: int = 20) -> np.ndarray:
    """Unit vectors in groups, as products are; the groups do not depend on the seed: (n, d) float32."""
    middles = np.random.default_rng([groups, d]).normal(size=(groups, d))
    g = np.random.default_rng(seed)
    out = middles[g.integers(groups, size=n)] + 0.5 * g.normal(size=(n, d))
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def on_grid(n: int, d: int, *, seed: int, steps: int = 2) -> np.ndarray:
    """Vectors of whole numbers: inner products are exact in any order of summing, and many of them tie."""
    return np.random.default_rng(seed).integers(-steps, steps + 1, size=(n, d)).astype(np.float32)


class VectorIndexSuite:
    """What every vector index promises. A subclass gives `make(vectors, seed)` and says whether it is exact."""

    exact: bool
    recall_at_least = 0.9

    def make(self, vectors, seed=0):
        raise AssertionError("a subclass makes the index")

    def check(self, vectors, queries, k, found, allow=None):
        scores, rows = found
        assert scores.shape == rows.shape == (len(queries), k)
        assert scores.dtype == np.float32 and rows.dtype == np.int64
        counting = np.flatnonzero(np.ones(len(vectors), bool) if allow is None else allow)
        filled = min(k, len(counting))
        for at, query in enumerate(queries):
            own = rows[at, :filled]
            assert np.isin(own, counting).all() and len(set(own.tolist())) == filled
            assert (rows[at, filled:] == -1).all() and (scores[at, filled:] == -np.inf).all()
            true = vectors[own].astype(np.float64) @ query.astype(np.float64)
            np.testing.assert_allclose(scores[at, :filled], true, atol=1e-6)
            order = list(zip((-scores[at, :filled]).tolist(), own.tolist(), strict=True))
            assert order == sorted(order), "descending, ties by lower row"

    def check_against_oracle(self, vectors, queries, k, found, allow=None):
        self.check(vectors, queries, k, found, allow)
        for at, expected in enumerate(oracles.nearest(vectors, queries, k, allow)):
            assert found[1][at, : len(expected)].tolist() == [row for _, row in expected]
            assert found[0][at, : len(expected)].tolist() == [score for score, _ in expected]

    @pytest.mark.parametrize("q", [1, 20])
    def test_finds_what_is_there(self, q):
        vectors = clustered(3000, 24, seed=1)
        queries = clustered(q, 24, seed=2)
        index = self.make(vectors)
        assert len(index) == 3000
        scores, rows = found = index.search(queries, 10)
        self.check(vectors, queries, 10, found)
        truth = [{row for _, row in best} for best in oracles.nearest(vectors, queries, 10)]
        share = np.mean([len(set(own.tolist()) & best) / 10 for own, best in zip(rows, truth, strict=True)])
        assert share == 1 if self.exact else share >= self.recall_at_least

    def test_a_product_is_nearest_to_itself(self):
        vectors = clustered(1000, 16, seed=3)
        own = np.arange(0, 1000, 50)
        assert self.make(vectors).search(vectors[own], 1)[1][:, 0].tolist() == own.tolist()

    @given(
        n=st.integers(1, 70), q=st.sampled_from([1, 3, 12]), k=st.integers(1, 30), seed=st.integers(0, 1000),
        share=st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]),
    )  # fmt: skip
    @settings(suppress_health_check=list(HealthCheck))  # the subclasses share this method, on purpose
    def test_small_sets_full_of_ties_are_answered_exactly(self, n, q, k, seed, share):
        vectors, queries = on_grid(n, 3, seed=seed), on_grid(q, 3, seed=seed + 1)
        allow = None if share is None else np.random.default_rng(seed).random(n) < share
        found = self.make(vectors, seed).search(queries, k, allow=allow)
        if self.exact or allow is not None:  # few rows that count are scanned by every kind
            self.check_against_oracle(vectors, queries, k, found, allow)
        else:
            self.check(vectors, queries, k, found, allow)

    @given(share=st.floats(0, 1), k=st.integers(1, 60), seed=st.integers(0, 100))
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    def test_a_mask_is_kept_and_k_places_are_filled(self, share, k, seed):
        vectors = clustered(2600, 8, seed=4)
        index = self.made_once(vectors)
        allow = np.random.default_rng(seed).random(len(vectors)) < share
        queries = vectors[:10]
        self.check(vectors, queries, k, index.search(queries, k, allow=allow), allow)

    def made_once(self, vectors):
        if type(self)._made is None:
            type(self)._made = self.make(vectors)
        return type(self)._made

    _made = None

    def __init_subclass__(cls):
        cls._made = None

    @pytest.mark.parametrize("q", [2, 30])
    def test_equal_products_come_by_lower_row(self, q):
        vectors = np.repeat(clustered(1, 12, seed=5), 300, axis=0)
        rows = self.make(vectors).search(np.repeat(vectors[:1], q, axis=0), 7)[1]
        if self.exact:
            assert (rows == np.arange(7)).all()
        assert (np.diff(rows, axis=1) > 0).all()

    def test_the_same_query_has_the_same_answer_in_any_company(self):
        vectors = clustered(2500, 24, seed=6)
        queries = clustered(40, 24, seed=7)
        index = self.make(vectors)
        together = index.search(queries, 9)
        for at in (0, 17, 39):
            alone = index.search(queries[at : at + 1], 9)
            assert alone[0].tobytes() == together[0][at].tobytes()
            assert alone[1].tobytes() == together[1][at].tobytes()

    def test_built_twice_it_answers_alike(self):
        vectors, queries = clustered(2500, 16, seed=8), clustered(20, 16, seed=9)
        first, second = (self.make(vectors, 3).search(queries, 12) for _ in range(2))
        assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()

    def test_nothing_to_find(self):
        empty = self.make(np.zeros((0, 5), np.float32))
        for q in (1, 20):
            scores, rows = empty.search(np.ones((q, 5), np.float32), 3)
            assert (rows == -1).all() and (scores == -np.inf).all() and rows.shape == (q, 3)
        full = self.make(clustered(2500, 5, seed=1))
        scores, rows = full.search(np.ones((20, 5), np.float32), 3, allow=np.zeros(2500, bool))
        assert (rows == -1).all() and (scores == -np.inf).all()
        assert full.search(np.zeros((0, 5), np.float32), 3)[1].shape == (0, 3)

    @pytest.mark.parametrize(
        ("queries", "k", "allow", "message"),
        [
            (np.ones((1, 4)), 3, None, "do not fit vectors of length 5"),
            (np.ones(5), 3, None, "do not fit"),
            (np.full((1, 5), np.nan), 3, None, "not a number"),
            (np.ones((1, 5)), 0, None, "k is 0"),
            (np.ones((1, 5)), 3, np.ones(39, bool), "allow must be"),
            (np.ones((1, 5)), 3, np.ones(40, np.int64), "allow must be"),
        ],
    )
    def test_a_wrong_call_is_refused(self, queries, k, allow, message):
        with pytest.raises(UsageError, match=message):
            self.make(clustered(40, 5, seed=1)).search(queries.astype(np.float32), k, allow=allow)


# --- execution -------------------------------------------------------------------------------------------------------


class NotingTask:
    """Returns ten times the shard's index, and notes what was called; `trouble` holds errors to raise first."""

    def __init__(self, trouble=None):
        self.trouble = {index: list(errors) for index, errors in (trouble or {}).items()}
        self.log = []

    def setup(self):
        self.log.append("setup")

    def run(self, shard):
        self.log.append(shard.index)
        if self.trouble.get(shard.index):
            raise self.trouble[shard.index].pop(0)
        return 10 * shard.index


class ExecutorSuite:
    """What every executor promises. A subclass gives `make()`."""

    def make(self):
        raise AssertionError("a subclass makes the executor")

    def test_every_shard_is_done_once_after_one_setup(self):
        task = NotingTask()
        results = dict((shard.index, result) for shard, result in self.make().map(task, plan_shards("r", "s", 7)))
        assert results == {index: 10 * index for index in range(7)}
        assert task.log[0] == "setup" and sorted(task.log[1:]) == list(range(7))

    def test_without_shards_nothing_is_set_up(self):
        task = NotingTask()
        assert list(self.make().map(task, [])) == [] and task.log == []

    def test_a_temporary_trouble_is_tried_again_as_often_as_allowed(self):
        task = NotingTask({2: [TemporaryError("a"), TemporaryError("b")]})
        assert len(list(self.make().map(task, plan_shards("r", "s", 4), retries=2))) == 4
        assert task.log.count(2) == 3
        with pytest.raises(TemporaryError, match="b"):
            list(
                self.make().map(
                    NotingTask({2: [TemporaryError("a"), TemporaryError("b")]}), plan_shards("r", "s", 4), retries=1
                )
            )

    def test_another_error_is_not_tried_again(self):
        task = NotingTask({1: [ValueError("broken")]})
        with pytest.raises(ValueError, match="broken"):
            list(self.make().map(task, plan_shards("r", "s", 3), retries=5))
        assert task.log.count(1) == 1


# --- recommend -------------------------------------------------------------------------------------------------------


class CandidateSourceSuite:
    """What every candidate source promises. A subclass gives `make()`, `known` (Interactions) and `now`."""

    known: Interactions
    now: int
    sellable: np.ndarray | None = None
    for_everybody = False
    """Does it know something for a user without history."""
    searched = False
    """Does it propose from a search, so that a proposal's score may leave out what the search has not found."""

    def make(self):
        raise AssertionError("a subclass makes the source")

    def batch(self, users):
        return UserBatch(self.known.histories(np.asarray(users, np.int64), 20), self.now)

    @given(users=st.lists(st.integers(-1, 59), min_size=1, max_size=12), k=st.integers(1, 30))
    @settings(suppress_health_check=list(HealthCheck), max_examples=25)
    def test_at_most_k_distinct_products_a_user_in_order(self, users, k):
        batch = self.batch(users)
        found = self.made_once().retrieve(batch, k)
        pairs = list(zip(found.user.tolist(), found.item.tolist(), strict=True))
        assert pairs == sorted(set(pairs)), "by user, then product, each once"
        counts = np.bincount(found.user, minlength=len(users))
        assert counts.max(initial=0) <= k
        assert np.isfinite(found.score).all() and found.score.dtype == np.float32 and (found.source == 0).all()
        assert ((found.item >= 0) & (found.item < self.known.n_items)).all()
        if self.sellable is not None:
            assert self.sellable[found.item].all()
        without = ~batch.histories.mask.any(axis=1)
        assert (counts[without] > 0).all() if self.for_everybody else (counts[without] == 0).all()
        stems = found.source_item >= 0
        own = batch.histories.items[found.user[stems]] == found.source_item[stems][:, None]
        assert own.any(axis=1).all(), "a proposal stems from what the user did"

    def test_fewer_places_hold_the_best_of_more(self):
        many, few = (self.made_once().retrieve(self.batch(range(20)), k) for k in (25, 4))
        for user in range(20):
            of_many, of_few = many.user == user, few.user == user
            order = np.lexsort((many.item[of_many], -many.score[of_many]))[:4]
            assert sorted(many.item[of_many][order].tolist()) == few.item[of_few].tolist()

    def test_made_twice_it_says_the_same(self):
        one, two = (self.make().retrieve(self.batch(range(-1, 40)), 15) for _ in range(2))
        for name in ("user", "item", "score", "source_item"):
            assert getattr(one, name).tobytes() == getattr(two, name).tobytes()

    def test_nobody_gets_nothing(self):
        assert len(self.made_once().retrieve(self.batch([]), 5)) == 0

    def weigh(self, users, user, item):
        """What it says of pairs, checked for shape and type."""
        found = self.made_once().score(self.batch(users), np.asarray(user, np.int64), np.asarray(item, np.int64))
        assert found.shape == (len(user),) and found.dtype == np.float32 and np.isfinite(found).all()
        return found

    def whole(self, users):
        """What it says of every product for each user: (b, n)."""
        b, n = len(users), self.known.n_items
        return self.weigh(users, np.repeat(np.arange(b), n), np.tile(np.arange(n), b)).reshape(b, n)

    @given(users=st.lists(st.integers(-1, 59), min_size=1, max_size=12), k=st.integers(1, 30))
    @settings(suppress_health_check=list(HealthCheck), max_examples=25)
    def test_a_proposed_pair_weighs_what_it_was_proposed_with(self, users, k):
        found = self.made_once().retrieve(self.batch(users), k)
        weight = self.weigh(users, found.user, found.item)
        if self.searched:
            assert (weight >= found.score - 1e-5).all()
        else:
            np.testing.assert_allclose(weight, found.score, rtol=1e-5, atol=1e-6)

    def test_what_would_never_be_proposed_weighs_nothing(self):
        users = list(range(-1, 40))
        found = self.made_once().retrieve(self.batch(users), self.known.n_items)
        weight = self.whole(users)
        assert (weight != 0).any()
        left = np.ones(weight.shape, bool) if self.sellable is None else np.tile(self.sellable, (len(users), 1))
        left[found.user, found.item] = False
        if not self.searched:
            assert (weight[left] == 0).all()

    def test_without_history_it_knows_nothing_or_the_same_for_everybody(self):
        batch = self.batch(range(-1, 40))
        without = ~batch.histories.mask.any(axis=1)
        weight = self.whole(range(-1, 40))
        assert without.sum() > 5
        if self.for_everybody:
            assert (weight == weight[0]).all() and weight.any()
        else:
            assert (weight[without] == 0).all()

    @given(users=st.lists(st.integers(-1, 59), min_size=2, max_size=8))
    @settings(suppress_health_check=list(HealthCheck), max_examples=15)
    def test_a_weight_does_not_depend_on_who_else_is_asked_for(self, users):
        alone = np.concatenate([self.whole([user]) for user in users])
        np.testing.assert_allclose(self.whole(users), alone, rtol=1e-5, atol=1e-6)

    @given(users=st.lists(st.integers(-1, 59), min_size=1, max_size=6), seed=st.integers(0, 100))
    @settings(suppress_health_check=list(HealthCheck), max_examples=15)
    def test_a_weight_does_not_depend_on_which_other_pairs_are_asked_for(self, users, seed):
        g = np.random.default_rng(seed)
        user = np.sort(g.integers(len(users), size=g.integers(1, 40)))  # some users with no pair, some pairs twice
        item = g.integers(self.known.n_items, size=len(user))
        np.testing.assert_allclose(self.weigh(users, user, item), self.whole(users)[user, item], rtol=1e-5, atol=1e-6)

    def test_no_pair_no_weight(self):
        assert len(self.weigh([0, -1, 5], [], [])) == 0 and len(self.weigh([], [], [])) == 0

    def made_once(self):
        if type(self)._made is None:
            type(self)._made = self.make()
        return type(self)._made

    _made = None

    def __init_subclass__(cls):
        cls._made = None
