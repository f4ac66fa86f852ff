"""What the blend knows of each proposed (user, product): the sources' scores and ranks, popularity, history length.

In: Candidates of all sources. Out: `Pairs`, each (user, product) once, and their features (m, f) float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.interactions import Interactions
from recsys.recommend.proposals import DAY, RETURN_CODE, Candidates, UserBatch

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """m distinct (user, product) pairs, by user, then product; s sources.

    Attributes:
        user: (m,) position in the batch.
        item: (m,) product row.
        score: (m, s) float32 in the sources' own units, 0 where a source did not propose it.
        held: (m, s) bool, did the source propose it.
        because: (m, s) product row the source's proposal stems from, -1 = none.
    """

    user: Rows
    item: Rows
    score: Floats
    held: npt.NDArray[np.bool_]
    because: Rows

    def __len__(self) -> int:
        return len(self.user)

    def take(self, kept: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs where `kept` (m,) is true."""
        return Pairs(self.user[kept], self.item[kept], self.score[kept], self.held[kept], self.because[kept])


def pairs_of(candidates: Candidates, sources: int) -> Pairs:
    """Put what the sources say about one (user, product) side by side."""
    user, item = candidates.user, candidates.item
    first = np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])][: len(user)]
    at = np.cumsum(first) - 1
    shape = (int(first.sum()), sources)
    score, held = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    because = np.full(shape, -1, np.int64)
    score[at, candidates.source] = candidates.score
    held[at, candidates.source] = True
    because[at, candidates.source] = candidates.because
    return Pairs(user[first], item[first], score, held, because)


class Popularity:
    """How often each product was bought lately and ever, as the blend sees it.

    Attributes:
        lately: (n,) float32 log(1 + purchases of the last days).
        ever: (n,) float32 log(1 + purchases).
        age: (n,) float32 log(1 + days since the first purchase), 0 where never bought.
    """

    def __init__(self, interactions: Interactions, *, now: int, days: float) -> None:
        kept = interactions.kind != RETURN_CODE
        item, time = interactions.item[kept], interactions.time[kept]
        n = interactions.n_items
        fresh = time >= now - days * DAY
        first = np.full(n, now, np.int64)
        np.minimum.at(first, item, time)
        self.lately = np.log1p(np.bincount(item[fresh], minlength=n)).astype(np.float32)
        self.ever = np.log1p(np.bincount(item, minlength=n)).astype(np.float32)
        self.age = np.log1p(np.maximum(now - first, 0) / DAY).astype(np.float32)


def names(sources: Sequence[str]) -> list[str]:
    """Names of the features, in order; those of a source begin with its name and a dot."""
    of_source = [f"{source}.{part}" for source in sources for part in ("relative", "place", "held", "raw")]
    crossed = [f"{source}.relative_{by}" for source in sources for by in ("by_history", "by_popularity")]
    return [*of_source, *crossed, "product.lately", "product.ever", "product.never", "product.age"]


def features(pairs: Pairs, users: UserBatch, popularity: Popularity) -> Floats:
    """Features of each pair in the order of `names`: (m, f) float32.

    `relative` is the source's score divided by the user's largest, so that sources in different units compare;
    `place` is 1 / rank; `raw` is the score itself, squashed, which tells a sure source from a guessing one.
    """
    m, s = pairs.score.shape
    if not m:
        return np.zeros((0, 6 * s + 4), np.float32)
    starts = np.searchsorted(pairs.user, np.arange(len(users) + 1))
    length = np.log1p(users.histories.real.sum(axis=1)).astype(np.float32)[pairs.user]
    ever = popularity.ever[pairs.item]
    own: list[Floats] = []
    crossed: list[Floats] = []
    for source in range(s):
        held, score = pairs.held[:, source], pairs.score[:, source]
        relative = _relative(score, held, pairs.user, starts)
        own += [relative, _place(score, held, pairs, starts), held.astype(np.float32), _squashed(score)]
        crossed += [relative * length, relative * ever]
    product = [popularity.lately[pairs.item], ever, (ever == 0).astype(np.float32), popularity.age[pairs.item]]
    return np.stack([*own, *crossed, *product], axis=1)


def _relative(score: Floats, held: npt.NDArray[np.bool_], user: Rows, starts: Rows) -> Floats:
    """Scores between 0 and 1 within each user: linear from the user's lowest (or 0) to the highest; 0 where missing."""
    high, low = _extreme(np.where(held, score, -np.inf), starts), -_extreme(np.where(held, -score, -np.inf), starts)
    low = np.minimum(low, 0.0)
    span = np.where(np.isfinite(high) & (high > low), high - low, 1.0)
    low = np.where(np.isfinite(low), low, 0.0)
    return np.where(held, (score - low[user]) / span[user], 0.0).astype(np.float32)


def _extreme(values: npt.NDArray[np.floating], starts: Rows) -> npt.NDArray[np.float64]:
    """The largest value of each user, -inf where a user has none: (b,)."""
    out = np.full(len(starts) - 1, -np.inf)
    some = np.flatnonzero(starts[1:] > starts[:-1])
    out[some] = np.maximum.reduceat(values, starts[some])
    return out


def _place(score: Floats, held: npt.NDArray[np.bool_], pairs: Pairs, starts: Rows) -> Floats:
    """1 / rank within the source's list of the user, ties by lower row; 0 where missing."""
    order = np.lexsort((pairs.item, -score, ~held, pairs.user))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts[pairs.user[order]]
    return np.where(held, 1.0 / (1.0 + rank), 0.0).astype(np.float32)


def _squashed(score: Floats) -> Floats:
    """A score of any unit without its tails: sign(x) log(1 + |x|)."""
    return (np.sign(score) * np.log1p(np.abs(score))).astype(np.float32)
