from __future__ import annotations

import logging

import numpy as np

from recsys.config import RankerSettings, RecommendSettings, RuleSettings
from recsys.recommend import features, rank
from recsys.recommend.cases import newest, time_split
from recsys.recommend.rehearsal import fit_on, rehearse
from recsys.recommend.sources import Knowledge
from tests.recommend.shops import DAY, START, StubModel, catalogue, events, interactions, vectors

N = 60
KNOWN = interactions(users=400, items=N, each=12, days=60, seed=3)
NAMES = RecommendSettings().sources


def rehearsed(known, *, seen=None):
    """The blend, and the events the user encoder was trained on."""
    asked = []

    def train_users(early):
        asked.append(early)
        return StubModel()

    blend = rehearse(
        catalogue(N),
        known,
        vectors(N),
        train_users,
        ranker=RankerSettings(candidates=20),
        recommend=RecommendSettings(),
        rules=RuleSettings(seen=seen or "repurchase"),
        seed=0,
    )
    return blend, asked


def test_the_user_encoder_sees_only_what_was_before_the_window():
    cut = newest(KNOWN, 0.15)
    blend, (early,) = rehearsed(KNOWN)
    assert early.time.max() < cut and len(early) == (KNOWN.time < cut).sum()
    assert blend.cases >= 50 and blend.sources == tuple(NAMES)


def test_fitted_twice_it_is_the_same():
    assert rehearsed(KNOWN)[0].to_json() == rehearsed(KNOWN)[0].to_json()


def planted(known, rows):
    """The same events and some more."""
    old = list(zip(known.user, known.item, (known.time - START) // DAY, strict=True))
    return events([*old, *rows], n_users=known.n_users, n_items=known.n_items)


def test_an_event_in_the_window_reaches_no_source_and_no_feature():
    cut = newest(KNOWN, 0.15)
    late = (cut - START) // DAY + 2
    # User 3 has no event; product 59 is the least bought.
    more = planted(KNOWN, [(3, 59, late), (7, 59, late), (0, 58, late)])
    assert newest(more, 0.15) == cut
    seen = []
    for known in (KNOWN, more):
        before, cases = time_split(known, cut)
        held = Knowledge(catalogue(N), before, StubModel(), vectors(N), RecommendSettings(), cut)
        popularity = features.Popularity(before, now=cut, days=7)
        both = {int(user): row for row, user in enumerate(cases.histories.users) if user not in (3, 7, 0)}
        seen.append((before, popularity, cases.histories, both, held))
    one, two = seen
    for name in ("user", "item", "time", "kind"):
        assert np.array_equal(getattr(one[0], name), getattr(two[0], name))
    for name in ("lately", "ever", "age"):
        assert np.array_equal(getattr(one[1], name), getattr(two[1], name))
    assert one[3].keys() == two[3].keys()
    mine, theirs = list(one[3].values()), list(two[3].values())
    assert np.array_equal(one[2].items[mine], two[2].items[theirs])


def test_an_event_after_the_window_of_the_test_changes_no_fitted_weight():
    """The whole protocol: split for the test, then rehearse on what is before."""
    cut = int(KNOWN.time.max())
    cut -= cut % DAY
    late = (cut - START) // DAY
    more = planted(KNOWN, [(3, 59, late), (7, 58, late), (11, 57, late)])
    blends = [rehearsed(known.split(cut)[0])[0].to_json() for known in (KNOWN, more)]
    assert blends[0] == blends[1] and rank.Blend.from_json(blends[0]).cases >= 50


def test_an_event_before_the_cut_does_change_them():
    more = planted(KNOWN, [(user, 59, 30) for user in range(40)])
    assert rehearsed(KNOWN)[0].to_json() != rehearsed(more)[0].to_json()


def test_events_of_one_moment_leave_equal_weights_and_say_so(caplog):
    known = events([(user, item, 0) for user in range(5) for item in range(3)], n_users=5, n_items=N)
    with caplog.at_level(logging.WARNING, logger="recsys"):
        blend, asked = rehearsed(known)
    assert blend.to_json() == rank.equal(NAMES).to_json() and asked == []
    assert "not fitted" in caplog.text


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
    before, cases = time_split(known, START + 25 * DAY)
    held = Knowledge(catalogue(N), before, StubModel(), content, RecommendSettings(), START + 25 * DAY)
    blend = fit_on(cases, held, rule_settings=RuleSettings(seen="exclude"), candidates=30)
    weight = dict(zip(blend.names, blend.weight.tolist(), strict=True))
    by_source = {name: sum(w for key, w in weight.items() if key.startswith(f"{name}.")) for name in NAMES}
    assert by_source["content"] + by_source["sequence"] > 1 > by_source["popular"]
