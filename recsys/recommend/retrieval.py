"""Retrieve the candidates of a batch of users from all sources and apply the candidate filters.

In: sources, users, candidate filters. Out: `CandidatePairs`, each (user, product) once; `ScoredCandidates` with
features and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.interactions import Histories
from recsys.recommend.candidates.source import CandidatePairs, Candidates, CandidateSource, UserBatch, merge_candidates
from recsys.recommend.rules.rule_set import CandidateFilter
from recsys.recommend.rules.statistics import RuleStats
from recsys.types import FloatArray


@dataclass(frozen=True)
class ScoredCandidates:
    """The candidates of b users with the ranker's features and scores.

    Attributes:
        histories: (b, t) of the users.
        pairs: m candidates that pass all filters.
        x: (m, f) features.
        score: (m,) float32, comparable within a user.
    """

    histories: Histories
    pairs: CandidatePairs
    x: FloatArray
    score: FloatArray


def retrieve_candidates(
    sources: Sequence[CandidateSource],
    users: UserBatch,
    k: int,
    filters: Sequence[CandidateFilter],
    *,
    rule_stats: RuleStats | None = None,
) -> CandidatePairs:
    """Retrieve the candidates of all sources, each (user, product) once, and remove those that a filter rejects.

    Args:
        sources: candidate sources, in order.
        users: b users.
        k: candidates per user and source.
        filters: applied in order.
        rule_stats: counts the pairs that each filter removes.
    """
    parts = []
    for index, source in enumerate(sources):
        candidates = source.retrieve(users, k)
        source_index = np.full(len(candidates), index, np.int16)
        parts.append(
            Candidates(candidates.user, candidates.item, candidates.score, source_index, candidates.source_item)
        )
    pairs = merge_candidates(Candidates.concat(parts), len(sources))
    for candidate_filter in filters:
        keep_mask = candidate_filter.keep_mask(pairs, users.histories)
        if rule_stats is not None:
            rule_stats.filtered_pairs[candidate_filter.name] += int((~keep_mask).sum())
        pairs = pairs.filter(keep_mask)
    return pairs
