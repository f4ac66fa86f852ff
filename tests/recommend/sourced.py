"""The shop on which every candidate source goes through its suite, and a way to ask one for some histories.

In: a source, lists of products. Out: what it proposes, the best first.
"""

from __future__ import annotations

import numpy as np

from recsys.recommend.candidates.source import UserBatch
from tests.recommend.shops import DAY, START, histories, interactions

KNOWN = interactions(kinds=(0, 0, 0, 2, 5))
N = KNOWN.n_items
SELLABLE = np.arange(N) % 7 != 3
NOW = START + 31 * DAY


def propose(source, lists, *, k=5, now=NOW, kinds=None):
    """Items of each user, the best first."""
    found = source.retrieve(UserBatch(histories(lists, kinds=kinds, now=now), now), k)
    order = np.lexsort((found.item, -found.score, found.user))
    return [found.item[order][found.user[order] == user].tolist() for user in range(len(lists))]


def weighed(source, lists, *, now=NOW, kinds=None):
    """What it says of every product for each user: (b, n)."""
    users = UserBatch(histories(lists, kinds=kinds, now=now), now)
    b = len(lists)
    return source.score(users, np.repeat(np.arange(b), N), np.tile(np.arange(N), b)).reshape(b, N)
