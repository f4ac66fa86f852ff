"""What sells among products like the user's: the groups a user buys from, and what is popular in each.

In: groups of the products, how popular each product is. Out: Candidates, each with the newest product of its group.
"""

from __future__ import annotations

import numpy as np

from recsys.recommend.candidates.item_knn import UserProfile, build_user_profile, lookup, sum_and_top_k
from recsys.recommend.candidates.source import Candidates, UserBatch
from recsys.types import FloatArray, IntArray


class ClusterSource:
    """Share of a user's taste in a group times the product's share of the group's sales."""

    name = "cluster"

    def __init__(
        self,
        groups: IntArray,
        popularity: FloatArray,
        *,
        sellable: np.ndarray | None = None,
        each: int = 50,
        last: int = 30,
        decay: float = 0.9,
    ) -> None:
        """Rank the products of each group.

        Args:
            groups: (n,) int64 group of each product, 0.. without gaps.
            popularity: (n,) float32, 0 and more, how popular each product is.
            sellable: (n,) bool, what may be proposed.
            each: products of a group that are proposed.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.groups, self.last, self.decay = groups, last, decay
        count = int(groups.max(initial=-1)) + 1
        total = np.bincount(groups, popularity, minlength=count)
        self.share = (popularity / np.maximum(total, 1e-9)[groups]).astype(np.float32)
        open_ = np.flatnonzero((popularity > 0) if sellable is None else (popularity > 0) & sellable)
        order = open_[np.lexsort((open_, -self.share[open_], groups[open_]))]
        place = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
        self._best = order[place < each]
        self._starts = np.searchsorted(groups[self._best], np.arange(count + 1))

    def retrieve(self, users: UserBatch, k: int) -> Candidates:
        user, group, weight, newest = self._liked(build_user_profile(users.histories, last=self.last, decay=self.decay))
        lengths = self._starts[group + 1] - self._starts[group]
        source = np.repeat(np.arange(len(group)), lengths)
        within = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        item = self._best[within + np.repeat(self._starts[group], lengths)]
        return sum_and_top_k(user[source], item, weight[source] * self.share[item], newest[source], k)

    def score(self, users: UserBatch, user: IntArray, item: IntArray) -> FloatArray:
        owner, group, weight, _ = self._liked(build_user_profile(users.histories, last=self.last, decay=self.decay))
        count = len(self._starts) - 1
        return lookup(owner * count + group, weight, user * count + self.groups[item]) * self.share[item]

    def _liked(self, signs: UserProfile) -> tuple[IntArray, IntArray, FloatArray, IntArray]:
        """Each user's groups: user, group, its share of the taste, the newest product of it; by user, then group."""
        whole = np.bincount(signs.user, signs.weight, minlength=1)
        group = self.groups[signs.item]
        order = np.lexsort((signs.back, group, signs.user))
        user, group, item, weight = signs.user[order], group[order], signs.item[order], signs.weight[order]
        first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (group[1:] != group[:-1])][: len(user)])
        total = np.add.reduceat(weight, first) if len(first) else np.zeros(0, np.float32)
        share = total / np.maximum(whole[user[first]], 1e-9)
        return user[first], group[first], share.astype(np.float32), item[first]
