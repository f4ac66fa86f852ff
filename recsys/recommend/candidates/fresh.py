"""New products near the user's taste: what nobody could have bought yet must come in by its content.

In: product vectors, which products are new. Out: Candidates, each with the product it resembles most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys.recommend.proposals import Candidates, Scores, UserBatch
from recsys.recommend.spread import Floats, Rows, best, side_by_side, taste


class Fresh:
    """The largest cosine between a new product and one of the user's last products, less the longer ago."""

    name = "fresh"

    def __init__(
        self,
        content: Floats,
        new: npt.NDArray[np.bool_],
        *,
        sellable: npt.NDArray[np.bool_] | None = None,
        last: int = 10,
        decay: float = 0.9,
    ) -> None:
        """Keep the new products.

        Args:
            content: (n, d) unit vectors.
            new: (n,) bool, see `columns.new_products`.
            sellable: (n,) bool, what may be proposed.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.content, self.new, self.last, self.decay = np.asarray(content), new, last, decay  # no slow view of a file
        self.rows = np.flatnonzero(new if sellable is None else new & sellable).astype(np.int64)
        self._vectors = np.ascontiguousarray(content[self.rows])

    def propose(self, users: UserBatch, k: int) -> Candidates:
        signs = taste(users.histories, last=self.last, decay=self.decay)
        bounds = np.searchsorted(signs.user, np.arange(len(users) + 1))
        parts: list[tuple[Rows, Rows, Floats, Rows]] = []
        for user in np.unique(signs.user).tolist() if len(self.rows) else []:
            own = slice(bounds[user], bounds[user + 1])
            near = (self._vectors @ self.content[signs.item[own]].T) * signs.weight[own]
            closest = near.argmax(axis=1)
            score = np.take_along_axis(near, closest[:, None], axis=1)[:, 0]
            some = np.flatnonzero(score > 0)
            if len(some) > k:
                some = some[score[some] >= np.partition(score[some], -k)[-k]]
            at = np.full(len(some), user, np.int64)
            parts.append((at, self.rows[some], score[some], signs.item[own][closest[some]]))
        if not parts:
            return Candidates.none()
        owner, item, likeness, because = (np.concatenate(column) for column in zip(*parts, strict=True))
        return best(owner, item, likeness, because, k)

    def weigh(self, users: UserBatch, user: Rows, item: Rows) -> Scores:
        signs = taste(users.histories, last=self.last, decay=self.decay)
        out = np.zeros(len(user), np.float32)
        asked = np.flatnonzero(self.new[item])
        for _, own, some in side_by_side(len(users), signs.user, user[asked]):
            near = (self.content[item[asked[some]]] @ self.content[signs.item[own]].T) * signs.weight[own]
            out[asked[some]] = np.maximum(near.max(axis=1), 0)
        return out
