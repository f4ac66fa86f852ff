"""What all sources say of some users and the rules allow, and what the ranker makes of it.

In: sources, users, striking rules. Out: `Pairs`, each (user, product) once; `Scored` with features and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.interactions import Histories
from recsys.recommend.candidates.source import Candidates, CandidateSource, Pairs, UserBatch, pairs_of
from recsys.recommend.rules import rule_set as rules
from recsys.recommend.rules.statistics import Drops
from recsys.types import FloatArray


@dataclass(frozen=True)
class Scored:
    """The candidates of b users as the ranker sees them.

    Attributes:
        histories: (b, t) of the users.
        pairs: m candidates that no rule strikes out.
        x: (m, f) their features.
        score: (m,) float32, comparable within a user.
    """

    histories: Histories
    pairs: Pairs
    x: FloatArray
    score: FloatArray


def proposed(
    made: Sequence[CandidateSource],
    users: UserBatch,
    k: int,
    rule: Sequence[rules.StrikingRule],
    *,
    drops: Drops | None = None,
) -> Pairs:
    """What all sources propose and all rules allow, each (user, product) once; what a rule strikes out is counted."""
    parts = []
    for place, source in enumerate(made):
        found = source.propose(users, k)
        at = np.full(len(found), place, np.int16)
        parts.append(Candidates(found.user, found.item, found.score, at, found.because))
    pairs = pairs_of(Candidates.joined(parts), len(made))
    for one in rule:
        kept = one.keep(pairs, users.histories)
        if drops is not None:
            drops.struck[one.name] += int((~kept).sum())
        pairs = pairs.take(kept)
    return pairs
