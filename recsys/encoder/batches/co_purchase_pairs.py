"""Which products the same users bought close in time, and how to draw from that.

In: interactions. Out: for a product the partners it was bought with, drawn by weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Interactions
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

_AHEAD: Final = 12
"""Later events of the user an event is paired with at most."""
_WINDOW: Final = 28 * 86400
_FADE: Final = 5 * 86400
"""Seconds in which a pair's weight falls to 1/e."""


@dataclass(frozen=True)
class CoPurchasePairs:
    """Partners of n products in a row: those of product i are `other[starts[i]:starts[i+1]]`.

    Attributes:
        starts: (n + 1,) int64.
        other: (p,) int64, ascending within a product, each once.
        cumulative: (p,) float64, running sum of all weights, over all products.
        log_mixed: (n,) float32, log of how often a product comes in a batch, half of which are products drawn evenly
            and half partners of those.
    """

    starts: IntArray
    other: IntArray
    cumulative: DoubleArray
    log_mixed: FloatArray

    @staticmethod
    def from_interactions(interactions: Interactions) -> CoPurchasePairs:
        """Pair each event with the user's next ones within four weeks; a pair weighs less the longer the gap."""
        n = interactions.n_items
        counted = interactions.where(interactions.weight > 0)
        keys, weights = [], []
        for ahead in range(1, _AHEAD + 1):
            a, b = slice(None, -ahead), slice(ahead, None)
            gap = counted.time[b] - counted.time[a]
            kept = (counted.user[a] == counted.user[b]) & (gap <= _WINDOW) & (counted.item[a] != counted.item[b])
            one, two = counted.item[a][kept], counted.item[b][kept]
            weight = np.exp(-gap[kept] / _FADE) * np.sqrt(counted.weight[a][kept] * counted.weight[b][kept])
            keys += [one * n + two, two * n + one]
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
        return len(self.other)

    def sample(self, rows: npt.NDArray[np.integer], rng: np.random.Generator) -> IntArray:
        """A partner of each product by weight, -1 where it has none: (m,) int64."""
        begin, end = self.starts[rows], self.starts[np.asarray(rows) + 1]
        found = end > begin
        if not len(self):
            return np.full(len(rows), -1, np.int64)
        low = np.where(begin > 0, self.cumulative[np.maximum(begin - 1, 0)], 0.0)
        high = self.cumulative[np.maximum(end - 1, 0)]
        at = np.searchsorted(self.cumulative, low + rng.random(len(rows)) * (high - low), side="right")
        at = np.clip(at, begin, np.maximum(end - 1, begin))
        return np.where(found, self.other[np.minimum(at, len(self) - 1)], -1)

    def in_batch_matches(self, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]) -> BoolArray:
        """Which of the products `columns` (c,) are the product itself or a known partner: (m, c) bool; -1 never is."""
        rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        n = len(self.starts) - 1
        length = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), length)
        inside = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        known = np.zeros((len(rows), n + 1), bool)
        known[owner, self.other[np.repeat(self.starts[rows], length) + inside]] = True
        known[np.arange(len(rows)), rows] = True
        known[:, n] = False
        return known[:, columns]
