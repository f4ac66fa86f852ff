from __future__ import annotations

import dataclasses
import logging
from functools import cache

import numpy as np
import pytest

from recsys.errors import ModelFolderError
from recsys.recommend.ranking import features
from recsys.recommend.ranking import linear as rank
from recsys.recommend.ranking.boosted_trees import BoostedTreesRanker, ndcg
from recsys.recommend.ranking.linear import LinearRanker
from tests import oracles
from tests.recommend.planted import NAMES, SOURCES, choices, fitted

DATA = choices("crossed")
X, USER, BOUGHT = DATA


@cache
def crossed(kind="auto"):
    return fitted(DATA, kind=kind)


# --- which ranker is chosen


def test_where_weights_cannot_say_it_trees_are_chosen_and_say_why():
    ranker = crossed()
    assert isinstance(ranker, BoostedTreesRanker)
    trees, weights = ranker.holdout_ndcg
    assert trees > weights + 0.05
    x, user, bought = choices("crossed", seed=9)  # users nothing was fitted or chosen on
    assert ndcg(ranker.score(x), user, bought) > ndcg(ranker.linear.score(x), user, bought) + 0.05
    assert set(list(ranker.importance)[:2]) == set(NAMES[:2])


def test_where_weights_say_it_all_nothing_is_lost():
    data = choices("linear")
    ranker = fitted(data)
    x, user, bought = choices("linear", seed=9)
    weights = fitted(data, kind="weights")
    assert ndcg(ranker.score(x), user, bought) > ndcg(weights.score(x), user, bought) - 0.003


def test_where_nothing_can_be_told_apart_trees_are_no_better_and_weights_are_kept(caplog):
    x, user, bought = choices("noise")
    with caplog.at_level(logging.WARNING, logger="recsys"):
        ranker = fitted((np.zeros_like(x), user, bought))
    assert isinstance(ranker, LinearRanker) and not ranker.weight.any()
    assert "trees are no better than the linear weights" in caplog.text


def test_the_figure_of_trees_grown_on_noise_is_that_of_other_users():
    """Stopping where some users look best makes the figure of just these users flattering."""
    said, true = [], []
    for seed in range(6):
        ranker = fitted(choices("noise", users=1000, seed=seed), kind="trees", seed=seed)
        x, user, bought = choices("noise", users=2000, seed=100 + seed)
        said.append(ranker.holdout_ndcg[0])
        true.append(ndcg(ranker.score(x), user, bought))
    assert np.mean(said) - np.mean(true) < 0.02


def test_kind_trees_asks_no_weights():
    ranker = fitted(choices("linear", users=300), kind="trees")  # too few for auto, and weights would be better
    assert (
        isinstance(ranker, BoostedTreesRanker) and np.isnan(ranker.holdout_ndcg[1]) and 0 < ranker.holdout_ndcg[0] < 1
    )


def test_kind_weights_grows_no_trees(monkeypatch, caplog):
    def grown(*_, **__):
        raise AssertionError("trees were grown")

    monkeypatch.setattr("recsys.recommend.ranking.training.fit_lambdamart", grown)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        ranker = fitted(DATA, kind="weights")
    assert isinstance(ranker, LinearRanker) and ranker.n_users == 1200 and caplog.text == ""


def test_too_few_users_get_weights_and_the_setting_is_named(caplog):
    with caplog.at_level(logging.WARNING, logger="recsys"):
        ranker = fitted(choices("crossed", users=499))
    assert isinstance(ranker, LinearRanker) and ranker.n_users == 499
    assert "499 users" in caplog.text and "trees need 500 (ranker.least_users)" in caplog.text
    assert isinstance(fitted(choices("crossed", users=499), least_users=499), BoostedTreesRanker)


def test_just_enough_users_are_enough_for_the_weights_that_trees_are_measured_by(caplog):
    x, user, bought = choices("noise", users=52)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        fitted((np.zeros_like(x), user, bought), least_users=50)
    assert "no better than the linear weights" in caplog.text
    assert "not fitted" not in caplog.text


def test_without_enough_users_for_weights_there_are_no_trees_either(caplog):
    with caplog.at_level(logging.WARNING, logger="recsys"):
        ranker = fitted(choices("crossed", users=30), kind="trees")
    assert ranker.to_json() == rank.equal_weights(SOURCES).to_json()
    assert "not fitted: only 30 users" in caplog.text


def test_the_same_data_and_seed_give_the_same_text_and_another_seed_another():
    one, two = crossed(), fitted(DATA)
    assert (
        one.model_text == two.model_text and one.importance == two.importance and one.holdout_ndcg == two.holdout_ndcg
    )
    assert one.linear.to_json() == two.linear.to_json()
    assert fitted(DATA, seed=1).model_text != one.model_text


def test_settings_reach_the_boosting():
    one = fitted(DATA, kind="trees", trees=1)
    assert one.model_text.count("\nTree=") == 1 < crossed().model_text.count("\nTree=")
    assert fitted(DATA, kind="trees", trees=1, learning_rate=0.5).model_text != one.model_text


# --- what a ranker of trees says


def test_it_speaks_for_the_same_sources_and_users_as_its_blend():
    ranker = crossed()
    assert ranker.sources == SOURCES and ranker.n_users == ranker.linear.n_users == 1200


def test_what_each_source_adds_is_said_by_the_blend():
    ranker = crossed()
    assert ranker.score_by_source(X).tobytes() == ranker.linear.score_by_source(X).tobytes()
    assert ranker.score_by_source(X).shape == (len(X), len(SOURCES))


def test_importance_is_a_share_the_largest_first():
    shares = list(crossed().importance.values())
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert shares == sorted(shares, reverse=True) and min(shares) >= 0
    assert set(crossed().importance) <= set(NAMES)


def test_scores_are_those_of_each_row_alone():
    ranker = crossed()
    whole = ranker.score(X[:50])
    assert whole.dtype == np.float32 and whole.shape == (50,) and len(set(whole.tolist())) > 10
    assert np.concatenate([ranker.score(X[at : at + 1]) for at in range(50)]).tobytes() == whole.tobytes()
    assert ranker.score(X[:0]).shape == (0,)


def test_trees_of_other_features_are_refused():
    other = ("sequence", "content")
    blend = dataclasses.replace(crossed().linear, sources=other, feature_names=tuple(features.feature_names(other)))
    with pytest.raises(ModelFolderError, match="another version; run 'recsys train ranker'"):
        dataclasses.replace(crossed(), linear=blend).score(X)


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n", "nothing of the kind"])
def test_a_text_that_is_no_trees_is_refused(text):
    with pytest.raises(ModelFolderError, match="cannot be read"):
        dataclasses.replace(crossed(), model_text=text).score(X)


# --- how it is judged


@pytest.mark.parametrize("users", [1000, 50])
def test_every_user_is_judged_by_what_was_fitted_on_others(monkeypatch, users):
    """Each user is known by a feature of its own."""
    import lightgbm

    x, user, bought = choices("crossed", users=users)
    x[:, -1] = user
    weighed, split, judged = [], [], []
    fit_weights, cross = rank.fit_conditional_logit, lightgbm.cv

    def weights(rows, *rest, **named):
        weighed.append(set(rows[:, -1].tolist()))
        return fit_weights(rows, *rest, **named)

    def cv(*rest, folds, **named):
        split.extend((set(user[one].tolist()), set(user[other].tolist())) for one, other in folds)
        return cross(*rest, folds=folds, **named)

    def judge(score, owner, hit):
        judged.append(set(owner.tolist()))
        return ndcg(score, owner, hit)

    monkeypatch.setattr(lightgbm, "cv", cv)
    monkeypatch.setattr("recsys.recommend.ranking.training.fit_conditional_logit", weights)
    monkeypatch.setattr("recsys.recommend.ranking.boosted_trees.ndcg", judge)
    fitted((x, user, bought), least_users=50)
    everybody, *rest = weighed
    assert everybody == set(range(users)) and len(rest) == len(split) == 4
    for (learned, held), one in zip(split, rest, strict=True):
        assert learned == one and not learned & held and learned | held == everybody
        assert abs(len(held) - users / 4) <= 1
    assert set.union(*(held for _, held in split)) == everybody
    assert all(one == everybody for one in judged)


def test_of_very_many_users_a_quarter_judges(monkeypatch):
    judged = []
    monkeypatch.setattr("recsys.recommend.ranking.boosted_trees._MAX_USERS_ALL_FOLDS", 1000)
    monkeypatch.setattr(
        "recsys.recommend.ranking.boosted_trees.ndcg",
        lambda *all_: judged.append(len(np.unique(all_[1]))) or ndcg(*all_),
    )
    assert isinstance(fitted(DATA), BoostedTreesRanker)
    assert set(judged) == {300}


def test_the_score_is_that_of_the_trees_and_so_much_of_the_weights():
    alone, leaning = (dataclasses.replace(crossed(), linear_weight=lean) for lean in (0.0, 2.0))
    np.testing.assert_allclose(leaning.score(X) - alone.score(X), 2 * crossed().linear.score(X), atol=1e-5)


def test_what_is_asked_for_is_grown_whoever_is_drawn():
    data = choices("linear", users=50)
    for seed in range(30):
        ranker = fitted(data, kind="trees", seed=seed, trees=1)
        assert isinstance(ranker, BoostedTreesRanker) and np.isfinite(ranker.holdout_ndcg[0])


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_equals_the_slow_one_with_ties_by_position(seed):
    g = np.random.default_rng(seed)
    user = np.sort(g.integers(6, size=80))
    score = g.integers(4, size=80).astype(np.float32)
    bought = g.random(80) < 0.3
    bought[np.searchsorted(user, np.unique(user))] = True  # every user has a hit
    expected = []
    for one in np.unique(user):
        own = np.flatnonzero(user == one)
        order = sorted(own, key=lambda at: (-score[at], at))
        expected.append(oracles.metrics(order, set(own[bought[own]].tolist()), 10)[1])
    assert ndcg(score, user, bought) == pytest.approx(np.mean(expected))
