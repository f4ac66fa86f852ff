"""How sure a figure is: bootstrap intervals over users, and paired tests between two systems on the same users.

In: one number a user and system. Out: bounds, differences, p values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.types import DoubleArray, IntArray

_BLOCK = 4_000_000
"""Cells of a block of resamples; what bounds memory."""
_NOTHING = float("nan")


@dataclass(frozen=True)
class Difference:
    """Mean of one system minus mean of another over the same users.

    Attributes:
        difference: of the means.
        low: lower bound of its interval.
        high: upper bound.
        p_bootstrap: two-sided, twice the smaller share of resampled differences on either side of 0.
        p_signflip: two-sided, share of random sign flips of the users' differences with as large a mean.
    """

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_signflip: float


def bootstrap_means(values: DoubleArray, *, samples: int, seed: int = 0) -> DoubleArray:
    """Means of m columns over bootstrap resamples of b users, the same users in all columns (Efron 1979).

    Args:
        values: (b, m), NaN where a user has no value.
        samples: s.
        seed: of the draws.

    Returns:
        (s, m), NaN where a resample holds no user with a value.
    """
    b = len(values)
    out = np.full((samples, values.shape[1]), np.nan)
    if not b:
        return out
    g = np.random.default_rng(seed)
    missing = np.isnan(values)
    filled, present = np.where(missing, 0.0, values), (~missing).astype(np.float64)
    whole = not missing.any()
    at_once = max(1, _BLOCK // b)
    for start in range(0, samples, at_once):
        stop = min(start + at_once, samples)
        drawn = [np.bincount(g.integers(b, size=b), minlength=b) for _ in range(stop - start)]
        weight = np.array(drawn, np.float64)
        users = np.full((stop - start, 1), float(b)) if whole else weight @ present
        with np.errstate(invalid="ignore"):
            out[start:stop] = (weight @ filled) / users
    return out


def percentile_interval(means: DoubleArray, *, level: float = 0.95) -> tuple[DoubleArray, DoubleArray]:
    """Lower and upper percentiles of resampled means, (m,) each; NaN without a sample."""
    if not len(means):
        nothing = np.full(means.shape[1], np.nan)
        return nothing, nothing
    low, high = np.nanquantile(
        np.where(np.isnan(means).all(axis=0), 0.0, means), [(1 - level) / 2, (1 + level) / 2], axis=0
    )
    hollow = np.isnan(means).all(axis=0)
    return np.where(hollow, np.nan, low), np.where(hollow, np.nan, high)


def bootstrap_interval(values: DoubleArray, *, samples: int, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean over users; (nan, nan) without a user or a sample."""
    low, high = percentile_interval(
        bootstrap_means(np.asarray(values, np.float64)[:, None], samples=samples, seed=seed), level=level
    )
    return float(low[0]), float(high[0])


def paired_test(
    one: DoubleArray, others: DoubleArray, *, samples: int, permutations: int | None = None, seed: int = 0
) -> list[Difference]:
    """Compare one system with m others on the same b users.

    Args:
        one: (b,) its values.
        others: (b, m) theirs.
        samples: of the bootstrap; 0 = no interval and no p value.
        permutations: random sign flips; ten times the samples, less one, when not given.
        seed: of both.

    Returns:
        One `Difference` for each of the others.
    """
    apart = np.asarray(one, np.float64)[:, None] - np.asarray(others, np.float64)
    if not len(apart):
        return [Difference(*[_NOTHING] * 5) for _ in range(apart.shape[1])]
    means = bootstrap_means(apart, samples=samples, seed=seed)
    low, high = percentile_interval(means)
    if samples:
        below, above = (means <= 0).sum(axis=0), (means >= 0).sum(axis=0)
        by_bootstrap = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (samples + 1))
    else:
        by_bootstrap = np.full(apart.shape[1], np.nan)
    flips = 10 * samples - 1 if permutations is None else permutations
    by_flips = sign_flip_test(apart, permutations=flips, seed=seed)
    columns = zip(apart.mean(axis=0), low, high, by_bootstrap, by_flips, strict=True)
    return [Difference(*(float(value) for value in column)) for column in columns]


def sign_flip_test(apart: DoubleArray, *, permutations: int, seed: int = 0) -> DoubleArray:
    """Permutation test of the mean of paired differences (Fisher 1935): two-sided p, (m,).

    Were the two systems alike, each user's difference would as likely have the other sign. Counts the observed signs as
    one of the permutations, so that p is never 0; a difference of 0 for all users has p = 1.

    Args:
        apart: (b, m) differences.
        permutations: random flips; none gives NaN.
        seed: of the flips.
    """
    if permutations < 1:
        return np.full(apart.shape[1], np.nan)
    g = np.random.default_rng(seed)
    moved = apart[(apart != 0).any(axis=1)]
    reached = np.abs(moved.sum(axis=0)) * (1 - 1e-9)
    beyond: IntArray = np.ones(apart.shape[1], np.int64)
    at_once = max(1, _BLOCK // max(1, len(moved)))
    for start in range(0, permutations, at_once):
        count = min(at_once, permutations - start)
        signs = g.integers(0, 2, size=(count, len(moved)), dtype=np.int8) * 2 - 1
        beyond += (np.abs(signs.astype(np.float64) @ moved) >= reached).sum(axis=0)
    return np.asarray(beyond / (permutations + 1))
