from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from recsys.errors import ModelFolderError
from recsys.recommend.ranking import features
from recsys.recommend.ranking import linear as rank

SOURCES = ("sequence", "popular")
NAMES = features.feature_names(SOURCES)


def choices(*, users=400, each=2, seed=0):
    """Users who choose one of some candidates by planted weights: x, user, bought, weights."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(users * each, len(NAMES))).astype(np.float32)
    weights = g.normal(size=len(NAMES))
    user = np.repeat(np.arange(users), each)
    liking = (x @ weights + g.gumbel(size=len(x))).reshape(users, each)
    bought = np.zeros((users, each), bool)
    bought[np.arange(users), liking.argmax(axis=1)] = True
    return x, user, bought.ravel(), weights


def test_with_two_candidates_it_is_logistic_regression_of_their_difference():
    x, user, bought, _ = choices()
    found = rank.fit_conditional_logit(x, user, bought, sources=SOURCES, ridge=2.0)
    z = (x - found.mean) / found.scale
    pairs = z.reshape(-1, 2, len(NAMES))
    first = bought.reshape(-1, 2)[:, 0]
    expected = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=1000)
    expected.fit(pairs[:, 0] - pairs[:, 1], first)
    np.testing.assert_allclose(found.weight, expected.coef_[0], atol=1e-3)
    assert found.n_users == 400


def test_planted_weights_are_found():
    x, user, bought, weights = choices(users=3000, each=6)
    found = rank.fit_conditional_logit(x, user, bought, sources=SOURCES)
    assert np.corrcoef(found.coefficients, weights)[0, 1] > 0.99


def test_fitted_twice_it_is_the_same_text_and_the_text_gives_the_same_scores():
    x, user, bought, _ = choices()
    one, two = (rank.fit_conditional_logit(x, user, bought, sources=SOURCES) for _ in range(2))
    assert one.to_json() == two.to_json()
    again = rank.LinearRanker.from_json(one.to_json())
    assert again.score(x).tobytes() == one.score(x).tobytes()
    assert again.sources == SOURCES and again.n_users == one.n_users and again.to_json() == one.to_json()


def test_a_score_is_the_sum_of_its_sources_and_the_products_own():
    x, user, bought, _ = choices()
    found = rank.fit_conditional_logit(x, user, bought, sources=SOURCES)
    own = [at for at, name in enumerate(NAMES) if not name.startswith(tuple(f"{source}." for source in SOURCES))]
    rest = x[:, own] @ found.coefficients[own] - found.mean @ found.coefficients
    np.testing.assert_allclose(found.score_by_source(x).sum(axis=1) + rest, found.score(x), atol=1e-4)


def test_users_without_a_hit_change_nothing():
    x, user, bought, _ = choices(users=100)
    more = np.concatenate([x, x[:20]])
    users = np.concatenate([user, np.repeat(np.arange(100, 110), 2)])
    hits = np.concatenate([bought, np.zeros(20, bool)])
    one = rank.fit_conditional_logit(x, user, bought, sources=SOURCES)
    assert rank.fit_conditional_logit(more, users, hits, sources=SOURCES).to_json() == one.to_json()


def test_too_few_cases_keep_equal_weights_and_say_so(caplog):
    x, user, bought, _ = choices(users=20)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        found = rank.fit_conditional_logit(x, user, bought, sources=SOURCES)
    assert found.to_json() == rank.equal_weights(SOURCES).to_json() and found.n_users == 0
    assert "ranker not fitted: only 20 users" in caplog.text


def test_no_case_at_all(caplog):
    none = np.zeros(0, np.int64)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        found = rank.fit_conditional_logit(
            np.zeros((0, len(NAMES)), np.float32), none, none.astype(bool), sources=SOURCES
        )
    assert found.n_users == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.pop("features"),
        lambda held: held.update(format=99),
        lambda held: held["features"].pop(),
        lambda held: held["features"][0].update(scale=0.0),
        lambda held: held["features"][0].update(weight=float("nan")),
        lambda held: held["features"][0].update(name="sequence.other"),
        lambda held: held["features"][0].update(weight="much"),
    ],
)
def test_a_changed_text_is_refused(change):
    held = json.loads(rank.equal_weights(SOURCES).to_json())
    change(held)
    with pytest.raises(ModelFolderError, match="train ranker"):
        rank.LinearRanker.from_json(json.dumps(held))


def test_a_text_that_is_no_json_is_refused():
    with pytest.raises(ModelFolderError, match="cannot be read"):
        rank.LinearRanker.from_json("{")


def test_users_without_a_history_keep_the_order_of_popular():
    blend = rank.equal_weights(["sequence", "popular"])
    g = np.random.default_rng(0)
    x = g.random((9, len(blend.feature_names))).astype(np.float32)
    user, real = np.repeat([0, 1, 2], 3), np.array([[True, True], [False, False], [False, True]])
    score = rank.rank_scores(blend, x, user, real)
    cold = user == 1
    np.testing.assert_array_equal(score[~cold], blend.score(x)[~cold])
    np.testing.assert_array_equal(score[cold], x[cold, blend.feature_names.index("popular.place")])
    without = rank.equal_weights(["sequence", "content"])
    x = g.random((9, len(without.feature_names))).astype(np.float32)
    np.testing.assert_array_equal(rank.rank_scores(without, x, user, real), without.score(x))


def test_of_many_candidates_some_are_drawn_and_what_was_bought_stays():
    user, bought = np.repeat(np.arange(5), 20), np.arange(100) % 20 < 2
    kept = rank.sample_negatives(user, bought, 7, np.random.default_rng(0))
    assert kept[bought].all() and (np.bincount(user[kept & ~bought]) == 7).all()
    other = rank.sample_negatives(user, bought, 7, np.random.default_rng(1))
    assert (kept != other).any() and rank.sample_negatives(user, bought, 18, np.random.default_rng(0)).all()
