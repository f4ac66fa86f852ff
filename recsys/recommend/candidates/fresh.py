"""New products near the user's taste: what nobody could have bought yet must come in by its content.

In: product vectors, which products are new. Out: Candidates, each with the product it resembles most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Interactions
from recsys.recommend.proposals import DAY, Candidates, Scores, UserBatch
from recsys.recommend.spread import Floats, Rows, best, taste


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
            new: (n,) bool, see `new_products`.
            sellable: (n,) bool, what may be proposed.
            last: products of a user looked at.
            decay: weight of each further product back.
        """
        self.content, self.new, self.last, self.decay = content, new, last, decay
        self.rows = np.flatnonzero(new if sellable is None else new & sellable).astype(np.int64)
        self._vectors = np.ascontiguousarray(content[self.rows])

    def propose(self, users: UserBatch, k: int) -> Candidates:
        signs = taste(users.histories, last=self.last, decay=self.decay)
        bounds = np.searchsorted(signs.user, np.arange(len(users) + 1))
        parts = [Candidates.none()]
        for user in range(len(users)):
            own = slice(bounds[user], bounds[user + 1])
            if own.start == own.stop or not len(self.rows):
                continue
            near = (self._vectors @ self.content[signs.item[own]].T) * signs.weight[own]
            score, closest = near.max(axis=1), signs.item[own][near.argmax(axis=1)]
            some = np.flatnonzero(score > 0)
            if len(some) > k:
                some = some[score[some] >= np.partition(score[some], -k)[-k]]
            at = np.full(len(some), user, np.int64)
            parts.append(best(at, self.rows[some], score[some].astype(np.float32), closest[some], k))
        return Candidates.joined(parts)

    def weigh(self, users: UserBatch, user: Rows, item: Rows) -> Scores:
        signs = taste(users.histories, last=self.last, decay=self.decay)
        bounds = np.searchsorted(signs.user, np.arange(len(users) + 1))
        pairs = np.searchsorted(user, np.arange(len(users) + 1))
        out = np.zeros(len(user), np.float32)
        for at in range(len(users)):
            own, some = slice(bounds[at], bounds[at + 1]), slice(pairs[at], pairs[at + 1])
            if own.start < own.stop and some.start < some.stop:
                near = (self.content[item[some]] @ self.content[signs.item[own]].T) * signs.weight[own]
                out[some] = np.maximum(near.max(axis=1), 0)
        return np.where(self.new[item], out, 0.0).astype(np.float32)


def new_products(catalogue: Catalogue, interactions: Interactions, *, now: int, days: float) -> npt.NDArray[np.bool_]:
    """Which products came within the last days: by `created_at`, else by their first event; (n,) bool.

    A product with neither is new: nobody has had the chance to do anything with it.
    """
    n = len(catalogue)
    since = np.full(n, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(since, interactions.item, interactions.time)
    if schema.CREATED_AT in catalogue.frame.columns:
        held = catalogue.frame[schema.CREATED_AT]
        moment = held.dt.epoch("s") if held.dtype.is_temporal() else held.cast(pl.Int64)
        known = moment.is_not_null().to_numpy()
        since[known] = moment.fill_null(0).to_numpy()[known]
    return np.asarray((since == np.iinfo(np.int64).max) | (since >= now - days * DAY))
