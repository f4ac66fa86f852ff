"""Pairs of products that the same users bought close in time, and sampling from them.

In: interactions. Out: for a product a partner it was bought with, sampled by weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Interactions
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

_MAX_LAG: Final = 12
"""An event is paired with at most this many later events of the user."""
_MAX_GAP: Final = 28 * 86400
"""Longest time between the events of a pair, in seconds."""
_DECAY: Final = 5 * 86400
"""Seconds in which a pair's weight falls to 1/e."""


@dataclass(frozen=True)
class CoPurchasePairs:
    """Partners of n products in CSR form: those of product i are `other[starts[i]:starts[i+1]]`.

    Attributes:
        starts: (n + 1,) int64.
        partners: (p,) int64, ascending within a product, without duplicates.
        cumulative_weight: (p,) float64, running sum of the weights, over all products.
        log_batch_frequency: (n,) float32, log frequency of a product in a batch, half of it sampled uniformly and
            half partners of those.
    """

    starts: IntArray
    partners: IntArray
    cumulative_weight: DoubleArray
    log_batch_frequency: FloatArray

    @staticmethod
    def from_interactions(interactions: Interactions) -> CoPurchasePairs:
        """Pair each event with the user's next ones within four weeks; the weight decays with the gap."""
        n = interactions.n_items
        purchases = interactions.where(interactions.weight > 0)
        keys, weights = [], []
        for lag in range(1, _MAX_LAG + 1):
            earlier, later = slice(None, -lag), slice(lag, None)
            gap = purchases.time[later] - purchases.time[earlier]
            is_pair = (
                (purchases.user[earlier] == purchases.user[later])
                & (gap <= _MAX_GAP)
                & (purchases.item[earlier] != purchases.item[later])
            )
            first, second = purchases.item[earlier][is_pair], purchases.item[later][is_pair]
            weight = np.exp(-gap[is_pair] / _DECAY) * np.sqrt(
                purchases.weight[earlier][is_pair] * purchases.weight[later][is_pair]
            )
            keys += [first * n + second, second * n + first]
            weights += [weight, weight]
        key, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        weight = np.bincount(inverse, weights=np.concatenate(weights), minlength=len(key))
        anchor, other = np.divmod(key, n)
        starts = np.searchsorted(anchor, np.arange(n + 1)).astype(np.int64)
        total = np.bincount(anchor, weights=weight, minlength=n)
        share = np.bincount(other, weights=weight / total[anchor], minlength=n)
        log_mixed = np.log((share / max(1, int((total > 0).sum())) + 1 / n) / 2).astype(np.float32)
        return CoPurchasePairs(starts, other, np.cumsum(weight), log_mixed)

    def __len__(self) -> int:
        return len(self.partners)

    def sample(self, rows: npt.NDArray[np.integer], rng: np.random.Generator) -> IntArray:
        """Sample a partner of each product by weight, -1 where it has none: (m,) int64."""
        begin, end = self.starts[rows], self.starts[np.asarray(rows) + 1]
        has_partner = end > begin
        if not len(self):
            return np.full(len(rows), -1, np.int64)
        low = np.where(begin > 0, self.cumulative_weight[np.maximum(begin - 1, 0)], 0.0)
        high = self.cumulative_weight[np.maximum(end - 1, 0)]
        index = np.searchsorted(self.cumulative_weight, low + rng.random(len(rows)) * (high - low), side="right")
        index = np.clip(index, begin, np.maximum(end - 1, begin))
        return np.where(has_partner, self.partners[np.minimum(index, len(self) - 1)], -1)

    def in_batch_matches(self, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]) -> BoolArray:
        """Mark which products `columns` are the product itself or a known partner.

        Args:
            rows: (m,) products.
            columns: (c,) products to compare with; -1 never matches.

        Returns:
            (m, c) bool.
        """
        rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        n = len(self.starts) - 1
        length = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), length)
        offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        matches = np.zeros((len(rows), n + 1), bool)
        matches[owner, self.partners[np.repeat(self.starts[rows], length) + offset]] = True
        matches[np.arange(len(rows)), rows] = True
        matches[:, n] = False
        return matches[:, columns]
