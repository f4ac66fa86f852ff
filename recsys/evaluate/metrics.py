"""Ranking metrics at k: hit rate, NDCG, average precision, reciprocal rank, recall, precision.

In: (b, k) product rows, best first, -1 = empty; the products each user bought. Out: (b,) float64 in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.types import BoolArray, DoubleArray, IntArray


def hit_matrix(lists: npt.NDArray[np.integer], targets: Sequence[npt.NDArray[np.integer]]) -> BoolArray:
    """Mark the positions that hold a target; a product listed twice counts once: (b, k) bool."""
    if not len(lists):
        return np.zeros(lists.shape, np.bool_)
    lengths = np.array([len(items) for items in targets], np.int64)
    flat_targets = np.concatenate(targets).astype(np.int64)
    n_items = 1 + max(int(lists.max(initial=0)), int(flat_targets.max(initial=0)))
    rows = np.arange(len(lists), dtype=np.int64)
    is_target = np.isin(rows[:, None] * n_items + lists, np.repeat(rows, lengths) * n_items + flat_targets) & (
        lists >= 0
    )
    order = np.argsort(lists, axis=1, kind="stable")
    sorted_lists = np.take_along_axis(lists, order, axis=1)
    is_repeated = np.zeros(lists.shape, np.bool_)
    np.put_along_axis(is_repeated, order[:, 1:], sorted_lists[:, 1:] == sorted_lists[:, :-1], axis=1)
    return np.asarray(is_target & ~is_repeated)


def target_counts(targets: Sequence[npt.NDArray[np.integer]]) -> IntArray:
    """Count the distinct targets of each user: (b,) int64."""
    return np.array([len(set(items.tolist())) for items in targets], np.int64)


def hit_rate(hits: BoolArray, k: int) -> DoubleArray:
    """Hit rate: 1 if any of the first k products is a target, else 0: (b,)."""
    return np.asarray(hits[:, :k].any(axis=1), np.float64)


def ndcg(hits: BoolArray, n_targets: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Normalised discounted cumulative gain at k with binary gains (Järvelin & Kekäläinen 2002): (b,)."""
    discount: DoubleArray = np.reciprocal(np.log2(np.arange(2, k + 2, dtype=np.float64)))
    ideal: DoubleArray = np.zeros(k + 1)
    ideal[1:] = np.cumsum(discount)
    gain = (hits[:, :k] * discount[: hits[:, :k].shape[1]]).sum(axis=1)
    return np.asarray(gain / ideal[np.minimum(n_targets, k)])


def average_precision(hits: BoolArray, n_targets: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Average precision at k; its mean over users is MAP@k as defined by the H&M competition: (b,)."""
    top_hits = hits[:, :k]
    precision_at = np.cumsum(top_hits, axis=1) / np.arange(1, top_hits.shape[1] + 1)
    return np.asarray((precision_at * top_hits).sum(axis=1) / np.minimum(n_targets, k))


def reciprocal_rank(hits: BoolArray, k: int) -> DoubleArray:
    """1 / rank of the first target within the first k, else 0; its mean is MRR@k (Voorhees 1999): (b,)."""
    top_hits = hits[:, :k]
    return np.where(top_hits.any(axis=1), 1.0 / (1.0 + top_hits.argmax(axis=1)), 0.0)


def recall(hits: BoolArray, n_targets: npt.NDArray[np.integer], k: int) -> DoubleArray:
    """Share of the targets among the first k products: (b,)."""
    return np.asarray(hits[:, :k].sum(axis=1) / n_targets)


def precision(hits: BoolArray, k: int) -> DoubleArray:
    """Share of the first k positions that hold a target; empty positions count as misses: (b,)."""
    return np.asarray(hits[:, :k].sum(axis=1) / k)


def inverse_popularity(counts: npt.NDArray[np.integer], *, power: float = 0.5) -> DoubleArray:
    """Compute each product's weight in the debiased recall, (purchases + 1) ** -power: (n,).

    This is the inverse of the exposure propensity under a power law of popularity (Steck 2011; Yang et al. 2018).
    """
    return np.asarray((np.asarray(counts, np.float64) + 1.0) ** -power)


def debiased_recall(
    lists: npt.NDArray[np.integer],
    hits: BoolArray,
    targets: Sequence[npt.NDArray[np.integer]],
    weights: DoubleArray,
    *,
    k: int,
) -> DoubleArray:
    """Recall weighted by inverse popularity, so that recommending bestsellers gains little: (b,).

    The mean over users is sum of the weights of the targets found / sum of the weights of all targets, the
    popularity-stratified recall of Steck (2011); the value of a single user can therefore exceed 1.

    Args:
        lists: (b, k') product rows.
        hits: (b, k') hits, see `hit_matrix`.
        targets: b arrays of distinct products.
        weights: (n,) weights from `inverse_popularity`.
        k: cutoff.
    """
    gain = (weights[np.maximum(lists[:, :k], 0)] * hits[:, :k]).sum(axis=1)
    target_weight = np.array([weights[items].sum() for items in targets])
    return np.asarray(gain / target_weight.mean()) if len(target_weight) else np.zeros(0)
