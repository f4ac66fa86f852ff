"""The other way round: the users most likely to want a product.

In: a Recommender, a product, users. Out: user_id, rank, score, reason; the likeliest first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.special import expit

from recsys.data import schema
from recsys.recommend import recommender as line
from recsys.recommend.candidates.sequence import SequenceSource as SequenceSource
from recsys.recommend.candidates.source import CandidatePairs, UserBatch
from recsys.recommend.recommendations import Recommendations
from recsys.types import DoubleArray, IntArray

logger = logging.getLogger(__name__)
BY_TASTE = "no source proposes it; next by taste alone"
"""The reason of users who are ranked by their vector."""


def audience(
    recommender: line.Recommender,
    item: int,
    *,
    users: IntArray,
    k: int,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """The k users most likely to want a product.

    Candidates are proposed, struck out and ranked as for a list. A user's score is the product's share in the softmax
    of the user's candidates' scores, 0..1, which compares between users as a bare score does not. Users none of whose
    sources proposes the product come after them, by the inner product of the `sequence` source's user vector with the
    product's ranking vector, scored below 0; without that source, or without a history, they do not come at all. Users
    who may not get the product are left out. Ties go to the lower user row.

    Args:
        recommender: for all users.
        item: product row.
        users: (u,) user rows to choose from.
        k: users at most.
        progress: told (users done, users).

    Returns:
        Frame (user_id, rank, score, reason); the reason is the sentence the user would read beside the product.
    """
    if _forbidden(recommender, item):
        return _frame(recommender, users, [], [], [])
    at, share, places = _proposed(recommender, item, users, progress)
    order = np.lexsort((at, -share))[:k]
    reasons = recommender.explain(places.take(order))
    rows, score = at[order], share[order]
    if len(rows) < k:
        rest, inner = _by_user_vector(recommender, item, np.delete(np.arange(len(users)), at), users)
        order = np.lexsort((rest, -inner))[: k - len(rows)]
        rows = np.concatenate([rows, rest[order]])
        score = np.concatenate([score, -expit(-inner[order])])
        reasons += [BY_TASTE] * len(order)
    return _frame(recommender, users, rows, score, reasons)


def _forbidden(recommender: line.Recommender, item: int) -> bool:
    """Whether a rule keeps the product from everybody; said aloud, as is a product that is not sold."""
    name = recommender.catalogue.ids.texts[item]
    if not recommender.catalogue.sellable[item]:
        logger.warning("product '%s' is not available", name)
    barring = [rule.name for rule in recommender.rules.products if not rule.allowed[item]]
    if barring:
        logger.warning("nobody may get product '%s' by [rules] %s, so it has no audience", name, ", ".join(barring))
    return bool(barring)


def _proposed(
    recommender: line.Recommender, item: int, users: IntArray, progress: Callable[[int, int], None] | None
) -> tuple[IntArray, DoubleArray, Recommendations]:
    """Positions in `users` for whom the product is a candidate, its share among theirs, and what reasons need."""
    shares: list[DoubleArray] = [np.zeros(0)]
    places: list[Recommendations] = []
    for start in range(0, len(users), line.BLOCK):
        found = recommender.score_candidates(recommender.histories(users[start : start + line.BLOCK]), 1)
        user = found.pairs.user
        kept = np.flatnonzero(found.pairs.item == item)
        if len(kept):
            begins = np.searchsorted(user, np.arange(len(found.histories) + 1))
            some = np.flatnonzero(begins[1:] > begins[:-1])
            high, total = np.zeros(len(found.histories)), np.ones(len(found.histories))
            high[some] = np.maximum.reduceat(found.score, begins[some])
            power = np.exp(found.score.astype(np.float64) - high[user])
            total[some] = np.add.reduceat(power, begins[some])
            shares.append(power[kept] / total[user[kept]])
            told = recommender.to_recommendations(
                found, kept, rank=np.ones(len(kept), np.int64), score=found.score[kept]
            )
            places.append(told.with_user_offset(start))
        if progress is not None:
            progress(min(start + line.BLOCK, len(users)), len(users))
    joined = Recommendations.concat(places)
    return joined.user, np.concatenate(shares), joined


def _by_user_vector(
    recommender: line.Recommender, item: int, positions: IntArray, users: IntArray
) -> tuple[IntArray, DoubleArray]:
    """Those of the positions who may get the product and have a vector, and its inner product with the product's."""
    source = recommender.sources.get("sequence")
    parts: list[IntArray] = [np.zeros(0, np.int64)]
    inner: list[DoubleArray] = [np.zeros(0)]
    for start in range(0, len(positions) if isinstance(source, SequenceSource) else 0, line.BLOCK):
        assert isinstance(source, SequenceSource)
        some = positions[start : start + line.BLOCK]
        histories = recommender.histories(users[some])
        known = np.flatnonzero(histories.mask.any(axis=1))
        shape = (len(known), len(recommender.names))
        held, because = np.zeros(shape, np.bool_), np.full(shape, -1, np.int64)
        pairs = CandidatePairs(known, np.full(len(known), item, np.int64), held, because)
        for rule in recommender.rules.filters:
            pairs = pairs.take(rule.keep_mask(pairs, histories))
        if len(pairs):
            vectors = source.vectors(UserBatch(histories, recommender.now))[pairs.user]
            parts.append(some[pairs.user])
            inner.append((vectors @ source.items[item]).astype(np.float64))
    return np.concatenate(parts), np.concatenate(inner)


def _frame(
    recommender: line.Recommender,
    users: IntArray,
    rows: IntArray | list[int],
    score: DoubleArray | list[float],
    said: list[str],
) -> pl.DataFrame:
    kept = np.asarray(rows, np.int64)
    return pl.DataFrame(
        {
            schema.USER_ID: recommender.users.ids(users[kept]),
            "rank": np.arange(1, len(kept) + 1),
            "score": np.asarray(score, np.float64),
            "reason": said,
        },
        schema={schema.USER_ID: pl.String, "rank": pl.Int64, "score": pl.Float64, "reason": pl.String},
    )
