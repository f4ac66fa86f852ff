from __future__ import annotations

import itertools

import numpy as np
import pytest

from recsys.errors import UsageError
from recsys.vectors.search.query_vector import OVERSHOOT, combine_query_vectors, projection_coefficients


def unit(values):
    out = np.asarray(values, np.float64)
    return (out / np.linalg.norm(out)).astype(np.float32)


def test_what_is_wanted_is_weighed_and_summed():
    right, up = unit([1, 0]), unit([0, 1])
    np.testing.assert_allclose(combine_query_vectors([(1, right), (1, up)]), unit([1, 1]), atol=1e-6)
    np.testing.assert_allclose(combine_query_vectors([(3, right), (1, up)]), unit([3, 1]), atol=1e-6)
    with pytest.raises(UsageError, match="cancel"):
        combine_query_vectors([(1, right), (1, -right)])


def test_all_that_the_wanted_has_of_the_unwanted_is_taken_out_and_a_step_beyond():
    away = unit([0, 1, 0])
    for height in (-1.0, 0.0, 0.5, 2.0):
        found = combine_query_vectors([(1, unit([1, height, 0]))], [(1, away)])
        assert found @ away < 0  # beyond the right angle, however much of it there was
        assert found[0] > 0.5 and found.dtype == np.float32
    half = combine_query_vectors([(1, unit([1, 2, 0]))], [(0.5, away)])
    assert 0 < half @ away < unit([1, 2, 0]) @ away


def test_several_unwanted_in_any_order_and_twice_the_same():
    g = np.random.default_rng(0)
    wanted = unit(g.normal(size=8))
    away = [unit(wanted + g.normal(size=8)) for _ in range(3)]
    first = combine_query_vectors([(1, wanted)], [(1, one) for one in away])
    for order in itertools.permutations(away):
        np.testing.assert_allclose(combine_query_vectors([(1, wanted)], [(1, one) for one in order]), first, atol=1e-5)
    once, twice = (
        combine_query_vectors([(1, wanted)], [(1, away[0])]),
        combine_query_vectors([(1, wanted)], [(1, away[0]), (1, away[0])]),
    )
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_the_rest_is_at_most_at_right_angles_to_each():
    g = np.random.default_rng(1)
    for _ in range(50):
        wanted, away = g.normal(size=5), g.normal(size=(4, 5))
        steps = projection_coefficients(wanted, away)
        rest = wanted - steps @ away
        assert (steps >= 0).all() and (away @ rest < 1e-9).all()
        np.testing.assert_allclose(steps * (away @ rest), 0, atol=1e-9)


def test_what_is_behind_stays_behind():
    found = combine_query_vectors([(1, unit([1, -1]))], [(1, unit([0, 1]))])
    np.testing.assert_allclose(found, unit(unit([1, -1]) - OVERSHOOT * np.array([0, 1])), atol=1e-6)


def test_nothing_is_left():
    with pytest.raises(UsageError, match="nothing of the query is left"):
        combine_query_vectors([(1, unit([1, 2]))], [(1, unit([1, 2]))])
