from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend import features
from recsys.recommend.proposals import Candidates, UserBatch
from tests.recommend.shops import DAY, START, events, histories

NAMES = ["one", "two"]


def candidates(rows):
    """Candidates of (user, item, source, score) rows."""
    user, item, source, score = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return Candidates(user, item, score.astype(np.float32), source.astype(np.int16), item + 50)


rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 1), st.integers(-3, 5)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:3],
)


@given(rows=rows)
def test_each_pair_stands_once_with_what_every_source_says(rows):
    pairs = features.pairs_of(candidates(rows), 2)
    assert list(zip(pairs.user, pairs.item, strict=True)) == sorted({row[:2] for row in rows})
    said = {row[:3]: row[3] for row in rows}
    for at, pair in enumerate(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)):
        for source in (0, 1):
            held = (*pair, source) in said
            assert pairs.held[at, source] == held
            assert pairs.score[at, source] == said.get((*pair, source), 0)
            assert pairs.because[at, source] == (pair[1] + 50 if held else -1)


@given(rows=rows)
def test_relative_and_place_are_taken_within_user_and_source(rows):
    pairs = features.pairs_of(candidates(rows), 2)
    users = UserBatch(histories([[1], [], [2, 3], [4]]), START)
    popularity = features.Popularity(events([(0, 1, 0)], n_users=1, n_items=9), now=START, days=7)
    x = features.features(pairs, users, popularity)
    names = features.names(NAMES)
    assert x.shape == (len(pairs), len(names)) and x.dtype == np.float32 and np.isfinite(x).all()
    for at, (user, item) in enumerate(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)):
        for source, name in enumerate(NAMES):
            list_ = sorted((-score, i) for u, i, s, score in rows if (u, s) == (user, source))
            mine = [rank for rank, (_, i) in enumerate(list_) if i == item]
            place = x[at, names.index(f"{name}.place")]
            assert place == (pytest.approx(1 / (1 + mine[0])) if mine else 0)
            relative = x[at, names.index(f"{name}.relative")]
            assert 0 <= relative <= 1
            low, high = min(0, -list_[-1][0] if list_ else 0), -list_[0][0] if list_ else 0
            if mine and high > low:
                assert relative == pytest.approx((-list_[mine[0]][0] - low) / (high - low))


def test_popularity_counts_lately_ever_and_age():
    known = events([(0, 0, 0), (1, 0, 29), (1, 1, 10), (0, 1, 28, 5)], n_users=2, n_items=3)
    held = features.Popularity(known, now=START + 30 * DAY, days=7)
    np.testing.assert_allclose(held.lately, np.log1p([1, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(held.ever, np.log1p([2, 1, 0]), rtol=1e-6)
    np.testing.assert_allclose(held.age, np.log1p([30, 20, 0]), rtol=1e-6)


def test_no_candidate_no_row():
    pairs = features.pairs_of(Candidates.none(), 2)
    held = features.Popularity(events([(0, 1, 0)], n_users=1, n_items=9), now=START, days=7)
    assert features.features(pairs, UserBatch(histories([[]]), START), held).shape == (0, len(features.names(NAMES)))
