"""Rank the users who are most likely to want a given product.

In: a Recommender, a product, users. Out: user_id, rank, score, reason; the most likely user first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.special import expit

from recsys.data import schema
from recsys.recommend.candidates.sequence import SequenceSource
from recsys.recommend.candidates.source import CandidatePairs, UserBatch
from recsys.recommend.recommendations import Recommendations
from recsys.recommend.recommender import USER_BATCH_SIZE, Recommender
from recsys.types import DoubleArray, IntArray

logger = logging.getLogger(__name__)
USER_VECTOR_REASON = "no source proposes it; next by taste alone"
"""Reason of the users who are ranked by their vector because no source retrieves the product for them."""


def rank_audience(
    recommender: Recommender,
    item: int,
    *,
    users: IntArray,
    k: int,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Rank the k users most likely to want a product.

    Candidates are retrieved, filtered and scored as for recommendations. A user's score is the product's share in the
    softmax over the scores of the user's candidates, 0..1, which is comparable between users; the ranker's score is
    not. Users for whom no source retrieves the product follow, by the inner product of the user vector of the
    `sequence` source with the product's ranking vector, with a score below 0; without that source or without a
    history, they are left out. Users for whom a rule excludes the product are left out. Ties go to the lower user row.

    Args:
        recommender: of all users.
        item: product row.
        users: (u,) user rows to choose from.
        k: maximum number of users.
        progress: called with (users done, users).

    Returns:
        Frame (user_id, rank, score, reason); the reason is the sentence shown to the user beside the product.
    """
    if _is_excluded(recommender, item):
        return _to_frame(recommender, users, [], [], [])
    positions, share, recommendations = _users_with_candidate(recommender, item, users, progress)
    order = np.lexsort((positions, -share))[:k]
    reasons = recommender.explain(recommendations.take(order))
    rows, score = positions[order], share[order]
    if len(rows) < k:
        other_positions = np.delete(np.arange(len(users)), positions)
        eligible, similarity = _by_user_vector(recommender, item, other_positions, users)
        order = np.lexsort((eligible, -similarity))[: k - len(rows)]
        rows = np.concatenate([rows, eligible[order]])
        score = np.concatenate([score, -expit(-similarity[order])])
        reasons += [USER_VECTOR_REASON] * len(order)
    return _to_frame(recommender, users, rows, score, reasons)


def _is_excluded(recommender: Recommender, item: int) -> bool:
    """Return whether a product rule excludes the product; log that, and log if the product is not available."""
    product_id = recommender.catalogue.ids.texts[item]
    if not recommender.catalogue.sellable[item]:
        logger.warning("product '%s' is not available", product_id)
    excluding_rules = [rule.name for rule in recommender.rules.product_filters if not rule.allowed_mask[item]]
    if excluding_rules:
        logger.warning(
            "product '%s' is excluded by [rules] %s; the audience is empty", product_id, ", ".join(excluding_rules)
        )
    return bool(excluding_rules)


def _users_with_candidate(
    recommender: Recommender, item: int, users: IntArray, progress: Callable[[int, int], None] | None
) -> tuple[IntArray, DoubleArray, Recommendations]:
    """Return the users for whom the product is a candidate.

    Returns:
        (p,) positions in `users`; (p,) the product's share in the softmax over the user's candidates; p
        recommendations with the fields that reasons need.
    """
    share_parts: list[DoubleArray] = [np.zeros(0)]
    recommendation_parts: list[Recommendations] = []
    for start in range(0, len(users), USER_BATCH_SIZE):
        scored = recommender.score_candidates(recommender.histories(users[start : start + USER_BATCH_SIZE]), 1)
        user = scored.pairs.user
        rows = np.flatnonzero(scored.pairs.item == item)
        if len(rows):
            starts = np.searchsorted(user, np.arange(len(scored.histories) + 1))
            nonempty = np.flatnonzero(starts[1:] > starts[:-1])
            max_score, total = np.zeros(len(scored.histories)), np.ones(len(scored.histories))
            max_score[nonempty] = np.maximum.reduceat(scored.score, starts[nonempty])
            exp_score = np.exp(scored.score.astype(np.float64) - max_score[user])
            total[nonempty] = np.add.reduceat(exp_score, starts[nonempty])
            share_parts.append(exp_score[rows] / total[user[rows]])
            part = recommender.to_recommendations(
                scored, rows, rank=np.ones(len(rows), np.int64), score=scored.score[rows]
            )
            recommendation_parts.append(part.with_user_offset(start))
        if progress is not None:
            progress(min(start + USER_BATCH_SIZE, len(users)), len(users))
    recommendations = Recommendations.concat(recommendation_parts)
    return recommendations.user, np.concatenate(share_parts), recommendations


def _by_user_vector(
    recommender: Recommender, item: int, positions: IntArray, users: IntArray
) -> tuple[IntArray, DoubleArray]:
    """Return the positions of users with a vector whom no rule excludes, and their inner product with the product."""
    source = recommender.sources.get("sequence")
    position_parts: list[IntArray] = [np.zeros(0, np.int64)]
    similarity_parts: list[DoubleArray] = [np.zeros(0)]
    if not isinstance(source, SequenceSource):
        return position_parts[0], similarity_parts[0]
    for start in range(0, len(positions), USER_BATCH_SIZE):
        batch = positions[start : start + USER_BATCH_SIZE]
        histories = recommender.histories(users[batch])
        with_events = np.flatnonzero(histories.mask.any(axis=1))
        shape = (len(with_events), len(recommender.source_names))
        proposed_by, source_item = np.zeros(shape, np.bool_), np.full(shape, -1, np.int64)
        pairs = CandidatePairs(with_events, np.full(len(with_events), item, np.int64), proposed_by, source_item)
        for candidate_filter in recommender.rules.filters:
            pairs = pairs.filter(candidate_filter.keep_mask(pairs, histories))
        if len(pairs):
            vectors = source.encode_users(UserBatch(histories, recommender.now))[pairs.user]
            position_parts.append(batch[pairs.user])
            similarity_parts.append((vectors @ source.item_vectors[item]).astype(np.float64))
    return np.concatenate(position_parts), np.concatenate(similarity_parts)


def _to_frame(
    recommender: Recommender,
    users: IntArray,
    positions: IntArray | list[int],
    score: DoubleArray | list[float],
    reasons: list[str],
) -> pl.DataFrame:
    rows = np.asarray(positions, np.int64)
    return pl.DataFrame(
        {
            schema.USER_ID: recommender.users.ids(users[rows]),
            "rank": np.arange(1, len(rows) + 1),
            "score": np.asarray(score, np.float64),
            "reason": reasons,
        },
        schema={schema.USER_ID: pl.String, "rank": pl.Int64, "score": pl.Float64, "reason": pl.String},
    )
