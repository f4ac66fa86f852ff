from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend.candidates.source import Candidates, merge_candidates


def candidates(rows):
    """Candidates of (user, item, source, score) rows; each stems from product item + 50."""
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
    pairs = merge_candidates(candidates(rows), 2)
    assert list(zip(pairs.user, pairs.item, strict=True)) == sorted({row[:2] for row in rows})
    said = {row[:3] for row in rows}
    for at, pair in enumerate(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)):
        for source in (0, 1):
            held = (*pair, source) in said
            assert pairs.proposed_by[at, source] == held
            assert pairs.source_item[at, source] == (pair[1] + 50 if held else -1)


@given(rows=rows, seed=st.integers(0, 20))
def test_taking_some_takes_all_that_belongs_to_them(rows, seed):
    pairs = merge_candidates(candidates(rows), 2)
    kept = np.random.default_rng(seed).random(len(pairs)) < 0.5
    some = pairs.filter(kept)
    assert len(some) == kept.sum()
    for name in ("user", "item", "proposed_by", "source_item"):
        np.testing.assert_array_equal(getattr(some, name), getattr(pairs, name)[kept])


def test_no_candidate_no_pair():
    pairs = merge_candidates(Candidates.empty(), 2)
    assert len(pairs) == 0 and pairs.proposed_by.shape == pairs.source_item.shape == (0, 2)
