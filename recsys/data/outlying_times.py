"""Find events with a mistyped date: months after all others, or years before them.

In: users and times of the events. Out: which events lie apart from all others.

"Now" is the time of the newest event. One event dated half a year ahead would make every product old, no product
popular this week, and an evaluation of the last days empty.
"""

from __future__ import annotations

import numpy as np

from recsys.data.schema import DAY
from recsys.types import BoolArray, IntArray

_MIN_EVENTS = 20
"""With fewer events, none is far from the others."""
_MAX_SHARE_OF_EVENTS, _MAX_SHARE_OF_USERS = 0.01, 0.001
"""Largest share of the events, and of the users (at least one), that may lie apart; more support each other."""
_MIN_GAP = 30 * DAY
"""Smallest gap to the other events, in seconds."""
_GAP_FACTORS = (2.0, 20.0)
"""The gap is at least this many times the largest gap between the other events, and their mean gap."""


def outlying_times(user: IntArray, time: IntArray) -> BoolArray:
    """Mark the first and last events that a long gap separates from the others and few users have: (e,) bool."""
    out = np.zeros(len(time), np.bool_)
    if len(time) < _MIN_EVENTS or int(time.max()) - int(time.min()) < _MIN_GAP:
        return out
    n_edge = max(1, int(_MAX_SHARE_OF_EVENTS * len(time)))
    ascending = np.sort(time)
    gaps = np.diff(ascending)
    core = gaps[n_edge:-n_edge]
    smallest = max(_MIN_GAP, _GAP_FACTORS[0] * int(core.max(initial=0)), _GAP_FACTORS[1] * float(core.mean()))
    first, last = gaps[:n_edge] >= smallest, gaps[-n_edge:] >= smallest
    if not (first.any() or last.any()):
        return out
    max_users = max(1, int(_MAX_SHARE_OF_USERS * len(np.unique(user))))
    for apart in (
        *(time <= ascending[gap] for gap in np.flatnonzero(first).tolist()),
        *(time > ascending[len(gaps) - n_edge + gap] for gap in np.flatnonzero(last).tolist()),
    ):
        if len(np.unique(user[apart])) <= max_users:
            out |= apart
    return out
