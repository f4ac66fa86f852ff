from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.data.holdout import cutoff_for_fraction, time_split
from recsys.data.schema import PURCHASE_CODE
from recsys.recommend.candidates.registry import SourceContext
from recsys.recommend.ranking import features
from recsys.recommend.ranking import linear as rank
from recsys.recommend.ranking import training as rehearsal
from recsys.recommend.ranking.training import build_examples, fit_ranker, fit_ranker_on_holdout
from tests.recommend.ruled import goods
from tests.recommend.shops import DAY, START, StubModel, catalogue, events, interactions, vectors

N = 60
KNOWN = interactions(users=400, items=N, each=12, days=60, seed=3)
CUT = cutoff_for_fraction(KNOWN, 0.15)
NAMES = RecommendSettings().sources


def rehearsed(known, *, seen="repurchase", seed=0, **ranker):
    """The ranker, and the events the user encoder was trained on."""
    asked = []

    def train_users(early):
        asked.append(early)
        return StubModel()

    found = fit_ranker(
        catalogue(N),
        known,
        vectors(N),
        train_users,
        ranker=RankerSettings(candidates=20, **ranker),
        recommend=RecommendSettings(),
        rules=RuleSettings(seen=seen),
        seed=seed,
    )
    return found, asked


def watched(known, **ranker):
    """The cases and the knowledge of each window as the ranker gets them, and what the user encoder was trained on."""
    made, fitted = [], []

    def knowledge(catalogue, interactions, model, content, recommend, now):
        made.append(SourceContext(catalogue, interactions, model, content, recommend, now))
        return made[-1]

    def fit(rehearsals, **_):
        fitted.extend(rehearsals)
        return rank.equal_weights(NAMES)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "SourceContext", knowledge)
        patch.setattr(rehearsal, "fit_ranker_on_holdout", fit)
        _, asked = rehearsed(known, **ranker)
    assert [held for _, held in fitted] == made, "what is fitted on is made from nothing else"
    return fitted, asked


# --- the windows


@given(
    windows=st.integers(1, 5),
    fraction=st.sampled_from([0.1, 0.15, 0.3, 0.6]),
    seed=st.integers(0, 5),
    days=st.sampled_from([3, 20, 60]),
)
@settings(max_examples=25)
def test_windows_follow_each_other_and_cover_what_is_held_out(windows, fraction, seed, days):
    known = interactions(users=80, items=N, each=10, days=days, seed=seed, kinds=(0, 0, 2))
    fitted, asked = watched(known, windows=windows, window_fraction=fraction)
    moments = [held.now for _, held in fitted]
    assert moments == sorted(set(moments)) and 1 <= len(moments) <= windows
    assert moments[0] == cutoff_for_fraction(known, fraction)
    found = set()
    for (cases, held), end in zip(fitted, [*moments[1:], int(known.time.max()) + 1], strict=True):
        assert cases.now == held.now
        assert held.interactions.time.max() < held.now
        assert len(held.interactions) == (known.time < held.now).sum(), "all that was before, and nothing else"
        assert cases.histories.times[cases.histories.mask].max() < held.now
        for user, targets in zip(cases.histories.users.tolist(), cases.targets, strict=True):
            mine = (known.user == user) & (known.time >= held.now) & (known.time < end)
            assert targets.tolist() == sorted(set(known.item[mine & (known.event_type == PURCHASE_CODE)].tolist()))
            found |= {(user, held.now)}
    late = (known.time >= moments[0]) & (known.event_type == PURCHASE_CODE)
    window = np.array(moments)[np.searchsorted(moments, known.time[late], side="right") - 1]
    assert found == set(zip(known.user[late].tolist(), window.tolist(), strict=True)), "whoever bought in it is a case"
    (early,) = asked
    assert early.time.max() < moments[0] and len(early) == (known.time < moments[0]).sum()


def test_the_share_is_cut_into_equal_parts():
    known = interactions(users=2000, items=N, each=10, days=200)
    fitted, _ = watched(known, windows=3, window_fraction=0.3)
    moments = np.array([held.now for _, held in fitted])
    window = np.searchsorted(moments, known.time, side="right")
    np.testing.assert_allclose(np.bincount(window)[1:] / len(known), [0.1] * 3, atol=0.02)


def test_the_users_drawn_are_shared_among_the_windows():
    known = interactions(users=2000, items=N, each=10, days=60)
    fitted, _ = watched(known, windows=2, window_fraction=0.5, max_users=300)
    assert [len(cases) for cases, _ in fitted] == [150, 150]


def test_the_user_encoder_sees_only_what_was_before_the_first_window():
    blend, (early,) = rehearsed(KNOWN)
    assert early.time.max() < CUT and len(early) == (KNOWN.time < CUT).sum()
    assert blend.n_users >= 50 and blend.sources == tuple(NAMES)


def test_a_window_in_which_nobody_bought_is_left_out_and_it_is_said(caplog):
    rows = [(user, item, day) for user in range(20) for item, day in ((1, 0), (2, 10), (3, 80))]
    rows += [(user, 4, 90, 2) for user in range(20)]  # looked at, not bought
    known = events(rows, n_users=20, n_items=N)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        fitted, asked = watched(known, window_fraction=0.5)
    assert "one of its windows was skipped" in caplog.text
    assert [held.now for _, held in fitted] == [START + 80 * DAY] and len(asked) == 1


def test_two_moments_are_one_window(caplog):
    known = events([(user, item, item) for user in range(9) for item in (0, 1)], n_users=9, n_items=N)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        fitted, (early,) = watched(known, windows=4)
    ((cases, held),) = fitted
    assert held.now == START + DAY and len(cases) == 9 and set(early.time.tolist()) == {START}


def test_events_of_one_moment_leave_equal_weights_and_say_so(caplog):
    known = events([(user, item, 0) for user in range(5) for item in range(3)], n_users=5, n_items=N)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        blend, asked = rehearsed(known)
    assert blend.to_json() == rank.equal_weights(NAMES).to_json() and asked == []
    assert "not fitted" in caplog.text


# --- the candidates that are fitted on


def drawn(known=KNOWN, *, negatives=10, g=0, shop=None):
    """Features, users and outcomes of one window, and its cases."""
    before, cases = time_split(known, CUT)
    held = SourceContext(shop or catalogue(N), before, StubModel(), vectors(N), RecommendSettings(), CUT)
    found = build_examples(
        cases,
        held,
        rule_settings=RuleSettings(seen="allow"),
        ranker=RankerSettings(candidates=20, negatives=negatives),
        rng=np.random.default_rng(g),
    )
    return (*found, cases)


def test_of_what_was_not_bought_so_many_are_drawn_and_what_was_bought_is_kept():
    x, user, bought, cases = drawn(negatives=10)
    whole, owner, all_bought, _ = drawn(negatives=10_000)
    assert np.bincount(owner[~all_bought]).max() > 10, "or there is nothing to draw"
    np.testing.assert_array_equal(np.unique(user), np.unique(owner))
    for one in np.unique(owner).tolist():
        mine, theirs = user == one, owner == one
        assert (mine & ~bought).sum() == min(10, (theirs & ~all_bought).sum())
        np.testing.assert_array_equal(x[mine & bought], whole[theirs & all_bought])
        assert 1 <= (theirs & all_bought).sum() <= len(cases.targets[one])
        # The features are those among all candidates, not among the drawn.
        assert {row.tobytes() for row in x[mine]} <= {row.tobytes() for row in whole[theirs]}
    assert (np.diff(user) >= 0).all() and user.max() < len(cases)


def test_users_without_a_history_are_not_learned_from():
    late, newcomer = (CUT - START) // DAY + 1, KNOWN.n_users
    rows = [*zip(KNOWN.user, KNOWN.item, (KNOWN.time - START) // DAY, strict=True)]
    more = [(newcomer + at, item, late) for at in range(3) for item in range(N)]
    known = events([*rows, *more], n_users=newcomer + 3, n_items=N)
    x, user, bought, cases = drawn(known, negatives=10_000)
    assert set(cases.histories.users.tolist()) >= {newcomer, newcomer + 1, newcomer + 2}
    assert cases.histories.users[user].max() < newcomer
    alone, _, hits, _ = drawn(negatives=10_000)
    assert x.shape == alone.shape and (bought == hits).all()


def test_features_are_those_of_the_moment_of_the_window():
    x, user, _, cases = drawn()
    newest_event = cases.histories.times[user].max(axis=1)
    some = newest_event > 0
    away = x[:, features.feature_names(NAMES).index("user.away")]
    np.testing.assert_allclose(away[some], np.log1p((CUT - newest_event[some]) / DAY), rtol=1e-5)
    assert some.sum() > 100


def test_the_draw_is_that_of_the_generator():
    one, two, other = (drawn(g=g)[0] for g in (1, 1, 2))
    assert one.tobytes() == two.tobytes() and one.tobytes() != other.tobytes()


def test_blocks_of_users_are_not_mixed_up(monkeypatch):
    whole = drawn(negatives=10_000)
    monkeypatch.setattr(rehearsal, "_USER_BATCH_SIZE", 7)
    parts = drawn(negatives=10_000)
    np.testing.assert_array_equal(parts[1], whole[1])
    np.testing.assert_array_equal(parts[2], whole[2])
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-4, atol=1e-5)


def planted(known, rows):
    """The same events and some more."""
    old = list(zip(known.user, known.item, (known.time - START) // DAY, strict=True))
    return events([*old, *rows], n_users=known.n_users, n_items=known.n_items)


def by_user(found, without=()):
    """Features and outcomes of each user, by id."""
    x, owner, bought, cases = found
    users = cases.histories.users[owner]
    return {
        int(user): (x[users == user], bought[users == user]) for user in np.unique(users) if int(user) not in without
    }


@pytest.mark.parametrize("seed", range(3))
def test_an_event_in_the_window_changes_no_feature_of_anybody_else(seed):
    """Of all sources and all facts; a shop with brands, categories and prices, so that every column is filled."""
    g, some = np.random.default_rng(seed), [3, 7, 0, 11]
    late = (CUT - START) // DAY
    more = [(int(g.choice(some)), int(g.integers(N)), late + int(g.integers(9))) for _ in range(20)]
    known = planted(KNOWN, more)
    one, two = (by_user(drawn(held, negatives=10_000, shop=goods(N)), some) for held in (KNOWN, known))
    assert one.keys() == two.keys() and len(one) > 50
    for user, (x, bought) in one.items():
        np.testing.assert_array_equal(bought, two[user][1])
        np.testing.assert_allclose(x, two[user][0], rtol=1e-5, atol=1e-6)


# --- the fit


def test_fitted_twice_it_is_the_same():
    assert rehearsed(KNOWN)[0].to_json() == rehearsed(KNOWN)[0].to_json()


def test_an_event_after_the_window_of_the_test_changes_no_fitted_weight():
    """The whole protocol: split for the test, then rehearse on what is before."""
    cut = int(KNOWN.time.max())
    cut -= cut % DAY
    late = (cut - START) // DAY
    more = planted(KNOWN, [(3, 59, late), (7, 58, late), (11, 57, late)])
    blends = [rehearsed(known.split(cut)[0])[0].to_json() for known in (KNOWN, more)]
    assert blends[0] == blends[1] and rank.LinearRanker.from_json(blends[0]).n_users >= 50


def test_an_event_before_the_cut_does_change_them():
    more = planted(KNOWN, [(user, 59, 30) for user in range(40)])
    assert rehearsed(KNOWN)[0].to_json() != rehearsed(more)[0].to_json()


def test_users_of_two_windows_are_two_users(monkeypatch):
    """The position of a case counts within its window; two windows may not share it."""
    asked = []

    def fit(x, user, bought, **_):
        asked.append(user)
        return rank.equal_weights(["popular"])

    monkeypatch.setattr(rehearsal, "fit_conditional_logit", fit)
    parts = [(np.zeros((4, 1)), np.array([0, 0, 2, 2]), np.array([True, False] * 2))] * 2
    monkeypatch.setattr(rehearsal, "build_examples", lambda *_, **__: parts[0])
    held = SimpleNamespace(recommend=SimpleNamespace(sources=["popular"]))
    fit_ranker_on_holdout([(range(3), held)] * 2, rule_settings=RuleSettings(), ranker=RankerSettings(), seed=0)
    assert asked[0].tolist() == [0, 0, 2, 2, 3, 3, 5, 5]


def test_a_source_that_knows_tomorrow_gets_the_weight():
    """Users buy what lies next to their last product in the vectors: `content` must outweigh `popular`."""
    g = np.random.default_rng(5)
    content = np.zeros((N, N // 2), np.float32)
    content[np.arange(N), np.arange(N) // 2] = 1
    rows = []
    for user in range(300):
        first = int(g.integers(N))
        rows += [(user, first, int(g.integers(20))), (user, first ^ 1, 25)]
    known = events(rows, n_users=300, n_items=N)
    names = ["sequence", "co_purchase", "popular", "content"]
    before, cases = time_split(known, START + 25 * DAY)
    held = SourceContext(catalogue(N), before, StubModel(), content, RecommendSettings(sources=names), START + 25 * DAY)
    blend = fit_ranker_on_holdout(
        [(cases, held)], rule_settings=RuleSettings(seen="exclude"), ranker=RankerSettings(candidates=30), seed=0
    )
    weight = dict(zip(blend.feature_names, blend.weight.tolist(), strict=True))
    by_source = {name: sum(w for key, w in weight.items() if key.startswith(f"{name}.")) for name in names}
    assert by_source["content"] + by_source["sequence"] > 1 > by_source["popular"]
