"""How good ranked lists are: HR, NDCG and MAP at k, one number a user, and intervals over users.

In: (b, k) product rows, best first, -1 = none; the products each user bought. Out: (b,) float64 in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def hits(lists: npt.NDArray[np.integer], targets: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.bool_]:
    """Where a list names a target; a product named twice counts once: (b, k) bool."""
    out = np.zeros(lists.shape, np.bool_)
    for row, (items, wanted) in enumerate(zip(lists, targets, strict=True)):
        right = np.isin(items, wanted) & (items >= 0)
        _, first = np.unique(items, return_index=True)
        once = np.zeros(len(items), np.bool_)
        once[first] = True
        out[row] = right & once
    return out


def sizes(targets: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.int64]:
    """How many distinct targets each user has: (b,) int64."""
    return np.array([len(np.unique(wanted)) for wanted in targets], np.int64)


def hr(found: npt.NDArray[np.bool_], k: int) -> Values:
    """Hit rate: is any target among the first k: (b,)."""
    return np.asarray(found[:, :k].any(axis=1), np.float64)


def ndcg(found: npt.NDArray[np.bool_], size: npt.NDArray[np.integer], k: int) -> Values:
    """Normalised discounted cumulative gain of the first k, gain 1 a target (Järvelin & Kekäläinen 2002): (b,)."""
    discount: Values = np.reciprocal(np.log2(np.arange(2, k + 2, dtype=np.float64)))
    ideal: Values = np.zeros(k + 1)
    ideal[1:] = np.cumsum(discount)
    gained = (found[:, :k] * discount[: found[:, :k].shape[1]]).sum(axis=1)
    return np.asarray(gained / ideal[np.minimum(size, k)])


def average_precision(found: npt.NDArray[np.bool_], size: npt.NDArray[np.integer], k: int) -> Values:
    """Average precision at k; its mean over users is MAP@k, as the H&M competition counts it: (b,)."""
    within = found[:, :k]
    precision = np.cumsum(within, axis=1) / np.arange(1, within.shape[1] + 1)
    return np.asarray((precision * within).sum(axis=1) / np.minimum(size, k))


def interval(values: Values, *, samples: int, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean over users (percentiles, Efron 1979); (nan, nan) without a user or a sample."""
    if not len(values) or not samples:
        return float("nan"), float("nan")
    g = np.random.default_rng(seed)
    # Resampling b users with replacement = a multinomial count of each; users with equal values are drawn together.
    distinct, counts = np.unique(values, return_counts=True)
    drawn = g.multinomial(len(values), counts / counts.sum(), size=samples)
    low, high = np.quantile(drawn @ distinct / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
