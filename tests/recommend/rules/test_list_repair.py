"""Lists with new products within caps, against a search over all lists."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.recommend.rules.list_constraints import MaxPerValue, MinNewProducts, RankedPool, select_greedy
from recsys.recommend.rules.list_repair import repair_lists

N = 8
codes = st.lists(st.integers(-1, 2), min_size=N, max_size=N)


def pool_of(scores):
    n = len(scores)
    return RankedPool.from_candidates(
        np.zeros(n, np.int64), np.arange(n), np.array(scores, np.float32), n_users=1
    )  # one user


def within(chosen, caps):
    counts = [Counter(values[item] for item in chosen if values[item] >= 0) for values, _ in caps]
    return all(max(count.values(), default=0) <= most for count, (_, most) in zip(counts, caps, strict=True))


@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=N),
    k=st.integers(1, 5),
    values=st.tuples(codes, codes),
    most=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    new=st.lists(st.booleans(), min_size=N, max_size=N),
    least=st.integers(1, 4),
    n_caps=st.integers(1, 2),
)
def test_a_list_within_all_rules_is_found_wherever_there_is_one(scores, k, values, most, new, least, n_caps):
    pool, size = pool_of(scores), min(k, len(scores))
    caps = list(zip(values, most, strict=True))[:n_caps]
    rules = [MaxPerValue(str(at), bound, np.array(column)) for at, (column, bound) in enumerate(caps)]
    rules.append(MinNewProducts(least, np.array(new)))
    greedy = select_greedy(pool, k, constraints=rules, gain=None)
    choice = repair_lists(pool, k, greedy, constraints=rules, begin_gain=None)
    column = choice.column[0][choice.column[0] >= 0]
    found = pool.item[0, column].tolist()
    assert len(set(found)) == len(found) == size
    possible = [
        sum(new[item] for item in chosen)
        for chosen in itertools.combinations(range(len(scores)), size)
        if within(chosen, caps)
    ]
    needed = min(least, size, max(possible, default=0))
    if possible:
        assert within(found, caps) and sum(new[item] for item in found) >= needed
        assert not choice.over_cap.any()
    else:
        assert choice.column.tolist() == greedy.column.tolist()


def test_lists_that_keep_the_rules_stay_and_others_are_in_the_order_of_their_scores():
    brand, new = np.array([0, 0, 1, 0, 2]), np.array([False, False, False, True, False])
    rules = [MaxPerValue("brand", 2, brand), MinNewProducts(1, new)]
    pool = pool_of([5, 4, 3, 2, 1])
    greedy = select_greedy(pool, 4, constraints=rules, gain=None)
    assert greedy.column[0].tolist() == [0, 1, 2, 4], "both places of the brand went to old products"
    choice = repair_lists(pool, 4, greedy, constraints=rules, begin_gain=None)
    assert choice.column[0].tolist() == [0, 2, 3, 4]
    assert repair_lists(pool, 4, greedy, constraints=rules[:1], begin_gain=None) is greedy
    loose = [MaxPerValue("brand", 3, brand), rules[1]]
    kept = select_greedy(pool, 4, constraints=loose, gain=None)
    assert repair_lists(pool, 4, kept, constraints=loose, begin_gain=None) is kept
