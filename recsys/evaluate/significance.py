"""Bootstrap confidence intervals over users, and paired significance tests between systems.

In: one value per user and system. Out: interval bounds, differences, p values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.types import DoubleArray, IntArray

_MAX_CELLS = 4_000_000
"""Cells in a block of resamples; bounds the memory."""
_NAN = float("nan")


@dataclass(frozen=True)
class Difference:
    """Mean of one system minus mean of another over the same users.

    Attributes:
        difference: of the means.
        low: lower bound of its 95 % interval.
        high: upper bound.
        p_bootstrap: two-sided, twice the smaller share of resampled differences on either side of 0.
        p_signflip: two-sided, share of random sign flips of the users' differences whose mean is at least as large.
    """

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_signflip: float


def bootstrap_means(values: DoubleArray, *, samples: int, seed: int = 0) -> DoubleArray:
    """Compute column means over bootstrap resamples of users, the same in all columns (Efron 1979).

    Args:
        values: (b, m), one row per user, NaN where a user has no value.
        samples: s.
        seed: of the resampling.

    Returns:
        (s, m), NaN where a resample contains no user with a value.
    """
    b = len(values)
    out = np.full((samples, values.shape[1]), np.nan)
    if not b:
        return out
    g = np.random.default_rng(seed)
    missing = np.isnan(values)
    filled, present = np.where(missing, 0.0, values), (~missing).astype(np.float64)
    complete = not missing.any()
    block_size = max(1, _MAX_CELLS // b)
    for start in range(0, samples, block_size):
        stop = min(start + block_size, samples)
        counts = [np.bincount(g.integers(b, size=b), minlength=b) for _ in range(stop - start)]
        weight = np.array(counts, np.float64)
        n_users = np.full((stop - start, 1), float(b)) if complete else weight @ present
        with np.errstate(invalid="ignore"):
            out[start:stop] = (weight @ filled) / n_users
    return out


def percentile_interval(means: DoubleArray, *, level: float = 0.95) -> tuple[DoubleArray, DoubleArray]:
    """Return the lower and upper percentiles of resampled means, (m,) each; NaN without a resample."""
    if not len(means):
        undefined = np.full(means.shape[1], np.nan)
        return undefined, undefined
    low, high = np.nanquantile(
        np.where(np.isnan(means).all(axis=0), 0.0, means), [(1 - level) / 2, (1 + level) / 2], axis=0
    )
    is_empty = np.isnan(means).all(axis=0)
    return np.where(is_empty, np.nan, low), np.where(is_empty, np.nan, high)


def bootstrap_interval(values: DoubleArray, *, samples: int, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of the mean over users; (nan, nan) without a user or a resample."""
    low, high = percentile_interval(
        bootstrap_means(np.asarray(values, np.float64)[:, None], samples=samples, seed=seed), level=level
    )
    return float(low[0]), float(high[0])


def paired_test(
    values: DoubleArray, other_values: DoubleArray, *, samples: int, permutations: int | None = None, seed: int = 0
) -> list[Difference]:
    """Compare one system with m others on the same b users.

    Args:
        values: (b,) values of the system.
        other_values: (b, m) values of the other systems.
        samples: of the bootstrap; 0 = no interval and no p value.
        permutations: random sign flips; None = 10 * samples - 1.
        seed: of both.

    Returns:
        One `Difference` for each of the others.
    """
    differences = np.asarray(values, np.float64)[:, None] - np.asarray(other_values, np.float64)
    if not len(differences):
        return [Difference(*[_NAN] * 5) for _ in range(differences.shape[1])]
    means = bootstrap_means(differences, samples=samples, seed=seed)
    low, high = percentile_interval(means)
    if samples:
        below, above = (means <= 0).sum(axis=0), (means >= 0).sum(axis=0)
        p_bootstrap = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (samples + 1))
    else:
        p_bootstrap = np.full(differences.shape[1], np.nan)
    n_flips = 10 * samples - 1 if permutations is None else permutations
    p_signflip = sign_flip_test(differences, permutations=n_flips, seed=seed)
    columns = zip(differences.mean(axis=0), low, high, p_bootstrap, p_signflip, strict=True)
    return [Difference(*(float(value) for value in column)) for column in columns]


def sign_flip_test(differences: DoubleArray, *, permutations: int, seed: int = 0) -> DoubleArray:
    """Permutation test of the mean of paired differences (Fisher 1935): two-sided p, (m,).

    If the two systems were equally good, the sign of each user's difference would be random. The observed signs count
    as one of the permutations, so that p is never 0; a difference of 0 for all users has p = 1.

    Args:
        differences: (b, m) differences.
        permutations: random flips; 0 gives NaN.
        seed: of the flips.
    """
    if permutations < 1:
        return np.full(differences.shape[1], np.nan)
    g = np.random.default_rng(seed)
    nonzero = differences[(differences != 0).any(axis=1)]
    threshold = np.abs(nonzero.sum(axis=0)) * (1 - 1e-9)
    n_extreme: IntArray = np.ones(differences.shape[1], np.int64)
    block_size = max(1, _MAX_CELLS // max(1, len(nonzero)))
    for start in range(0, permutations, block_size):
        count = min(block_size, permutations - start)
        signs = g.integers(0, 2, size=(count, len(nonzero)), dtype=np.int8) * 2 - 1
        n_extreme += (np.abs(signs.astype(np.float64) @ nonzero) >= threshold).sum(axis=0)
    return np.asarray(n_extreme / (permutations + 1))
