"""What all sources say of some users and the rules allow, and what the ranker makes of it.

In: sources, users, striking rules. Out: `CandidatePairs`, each (user, product) once; `ScoredCandidates` with features and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.interactions import Histories
from recsys.recommend.candidates.source import CandidatePairs, Candidates, CandidateSource, UserBatch, merge_candidates
from recsys.recommend.rules import rule_set as rules
from recsys.recommend.rules.statistics import RuleStats
from recsys.types import FloatArray


@dataclass(frozen=True)
class ScoredCandidates:
    """The candidates of b users as the ranker sees them.

    Attributes:
        histories: (b, t) of the users.
        pairs: m candidates that no rule strikes out.
        x: (m, f) their features.
        score: (m,) float32, comparable within a user.
    """

    histories: Histories
    pairs: CandidatePairs
    x: FloatArray
    score: FloatArray


def retrieve_candidates(
    made: Sequence[CandidateSource],
    users: UserBatch,
    k: int,
    rule: Sequence[rules.CandidateFilter],
    *,
    drops: RuleStats | None = None,
) -> CandidatePairs:
    """What all sources propose and all rules allow, each (user, product) once; what a rule strikes out is counted."""
    parts = []
    for place, source in enumerate(made):
        found = source.retrieve(users, k)
        at = np.full(len(found), place, np.int16)
        parts.append(Candidates(found.user, found.item, found.score, at, found.source_item))
    pairs = merge_candidates(Candidates.concat(parts), len(made))
    for one in rule:
        kept = one.keep_mask(pairs, users.histories)
        if drops is not None:
            drops.filtered[one.name] += int((~kept).sum())
        pairs = pairs.take(kept)
    return pairs
