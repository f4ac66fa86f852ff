"""How good ranked lists are: HR, NDCG, MAP, MRR, recall and precision at k, one number a user.

In: (b, k) product rows, best first, -1 = none; the products each user bought. Out: (b,) float64 in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.types import BoolArray, DoubleArray, IntArray


def hits(lists: npt.NDArray[np.integer], targets: Sequence[npt.NDArray[np.integer]]) -> BoolArray:
    """Where a list names a target; a product named twice counts once: (b, k) bool."""
    if not len(lists):
        return np.zeros(lists.shape, np.bool_)
    lengths = np.array([len(wanted) for wanted in targets], np.int64)
    flat = np.concatenate(targets).astype(np.int64)
    width = 1 + max(int(lists.max(initial=0)), int(flat.max(initial=0)))
    rows = np.arange(len(lists), dtype=np.int64)
    right = np.isin(rows[:, None] * width + lists, np.repeat(rows, lengths) * width + flat) & (lists >= 0)
    order = np.argsort(lists, axis=1, kind="stable")
    held = np.take_along_axis(lists, order, axis=1)
    again = np.zeros(lists.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], held[:, 1:] == held[:, :-1], axis=1)
    return np.asarray(right & ~again)


def sizes(targets: Sequence[npt.NDArray[np.integer]]) -> IntArray:
    """How many distinct targets each user has: (b,) int64."""
    return np.array([len(set(wanted.tolist())) for wanted in targets], np.int64)


def hr(found: BoolArray, k: int) -> DoubleArray:
    """Hit rate: is any target among the first k: (b,)."""
    return np.asarray(found[:, :k].any(axis=1), np.float64)


def ndcg(found: BoolArray, size: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Normalised discounted cumulative gain of the first k, gain 1 a target (Järvelin & Kekäläinen 2002): (b,)."""
    discount: DoubleArray = np.reciprocal(np.log2(np.arange(2, k + 2, dtype=np.float64)))
    ideal: DoubleArray = np.zeros(k + 1)
    ideal[1:] = np.cumsum(discount)
    gained = (found[:, :k] * discount[: found[:, :k].shape[1]]).sum(axis=1)
    return np.asarray(gained / ideal[np.minimum(size, k)])


def average_precision(found: BoolArray, size: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Average precision at k; its mean over users is MAP@k, as the H&M competition counts it: (b,)."""
    within = found[:, :k]
    precision = np.cumsum(within, axis=1) / np.arange(1, within.shape[1] + 1)
    return np.asarray((precision * within).sum(axis=1) / np.minimum(size, k))


def reciprocal_rank(found: BoolArray, k: int) -> DoubleArray:
    """1 / place of the first target among the first k, 0 without one; its mean is MRR@k (Voorhees 1999): (b,)."""
    within = found[:, :k]
    return np.where(within.any(axis=1), 1.0 / (1.0 + within.argmax(axis=1)), 0.0)


def recall(found: BoolArray, size: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Share of the targets among the first k: (b,)."""
    return np.asarray(found[:, :k].sum(axis=1) / size)


def precision(found: BoolArray, k: int) -> DoubleArray:
    """Share of the k places that hold a target, empty places counted: (b,)."""
    return np.asarray(found[:, :k].sum(axis=1) / k)


def rarity(counts: npt.NDArray[np.integer], *, power: float = 0.5) -> DoubleArray:
    """What finding each product is worth, (purchases + 1) ** -power: (n,).

    The inverse of the propensity of being seen under a power law of popularity (Steck 2011; Yang et al. 2018).
    """
    return np.asarray((np.asarray(counts, np.float64) + 1.0) ** -power)


def debiased_recall(
    lists: npt.NDArray[np.integer],
    found: BoolArray,
    targets: Sequence[npt.NDArray[np.integer]],
    worth: DoubleArray,
    *,
    k: int,
) -> DoubleArray:
    """Recall in which a product counts by its rarity, so that naming what sells anyway earns little.

    The mean over users is sum of the worth of the targets found / sum of the worth of all targets, the
    popularity-stratified recall of Steck (2011); one user's number can therefore exceed 1.

    Args:
        lists: (b, k') product rows.
        found: (b, k') where they name a target.
        targets: b arrays of distinct products.
        worth: (n,) by `rarity`.
        k: places that count.
    """
    gained = (worth[np.maximum(lists[:, :k], 0)] * found[:, :k]).sum(axis=1)
    whole = np.array([worth[wanted].sum() for wanted in targets])
    return np.asarray(gained / whole.mean()) if len(whole) else np.zeros(0)
