"""From what a user did to what is near it: the history as weights, spread along each product's neighbours.

In: histories, a sparse matrix of neighbours. Out: `Candidates`, each with the event it stems from most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.interactions import Histories
from recsys.data.schema import RETURN_CODE
from recsys.recommend.candidates.per_user import top_k_per_user
from recsys.recommend.candidates.source import Candidates
from recsys.types import FloatArray, IntArray

EVENT_TYPE_WEIGHT = np.array([1.0, 0.6, 0.3, 0.5, 0.8, 0.0], np.float32)
"""What an event of each type (schema.EVENT_TYPES) says about taste, beside a purchase."""

_TABLE = 1 << 22
"""Places of a table over users and products: some that fit a processor's cache."""


@dataclass(frozen=True)
class UserProfile:
    """q distinct products of some users, the sign of taste each one is.

    Attributes:
        user: (q,) int64 position in the batch, ascending.
        item: (q,) int64 product row.
        weight: (q,) float32 in 0..1, less the longer ago.
        back: (q,) int64 how many distinct products came after it.
    """

    user: IntArray
    item: IntArray
    weight: FloatArray
    back: IntArray


def build_user_profile(histories: Histories, *, last: int, decay: float) -> UserProfile:
    """The last `last` distinct products of each user, weighted `decay` ** back; what was returned is no taste.

    A product that stands twice counts where it is newest.
    """
    user, column = np.nonzero(histories.mask)
    item, kind = histories.items[user, column], histories.event_types[user, column]
    newest = np.zeros(len(user), np.bool_)
    # Entries come by user, oldest first; turned around, the first of each (user, item) is its newest.
    key = (user * (int(item.max(initial=0)) + 1) + item)[::-1]
    newest[len(user) - 1 - np.unique(key, return_index=True)[1]] = True
    kept = newest & (kind != RETURN_CODE)
    user, item, kind = user[kept], item[kept], kind[kept]
    ends = np.searchsorted(user, user, side="right")
    back = ends - 1 - np.arange(len(user))
    near = back < last
    weight = (decay ** back[near]).astype(np.float32) * EVENT_TYPE_WEIGHT[kind[near]]
    return UserProfile(user[near].astype(np.int64), item[near], weight, back[near].astype(np.int64))


def top_k_per_row(rows: IntArray, columns: IntArray, values: FloatArray, n: int, *, keep: int) -> sparse.csr_matrix:
    """(n, n) float32 of the `keep` largest values of each row, ties by lower column."""
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    near = np.arange(len(rows)) - np.searchsorted(rows, rows) < keep
    return sparse.csr_matrix((values[near].astype(np.float32), (rows[near], columns[near])), shape=(n, n))


def empty_neighbours(n: int) -> sparse.csr_matrix:
    """Neighbours of n products that have none."""
    none = np.zeros(0, np.int64)
    return sparse.csr_matrix((np.zeros(0, np.float32), (none, none)), shape=(n, n))


def retrieve_neighbours(signs: UserProfile, neighbours: sparse.csr_matrix, k: int) -> Candidates:
    """Sum weight * similarity over a user's products; the k best of each user, ties by lower row.

    Args:
        signs: the users' products.
        neighbours: (n, n) float32, row i holds the neighbours of product i; without the diagonal.
        k: proposals a user.

    Returns:
        Candidates; `because` is the product that gave the largest part of the sum.
    """
    if not len(signs.user):
        return Candidates.empty()
    reached = _neighbour_scores(signs, neighbours, int(signs.user[-1]) + 1)
    user = np.repeat(np.arange(reached.shape[0]), np.diff(reached.indptr))
    kept = top_k_per_user(user, reached.data, k)
    user, item, score = user[kept], reached.indices[kept].astype(np.int64), reached.data[kept]
    because = _strongest_source(signs, neighbours, user, item)
    return Candidates(user, item, score, np.zeros(len(user), np.int16), because)


def _neighbour_scores(signs: UserProfile, neighbours: sparse.csr_matrix, users: int) -> sparse.csr_matrix:
    """Sum of weight * similarity of every product that a user's products lead to: (users, n), rows in order."""
    liked = sparse.csr_matrix((signs.weight, (signs.user, signs.item)), shape=(users, neighbours.shape[1]))
    reached: sparse.csr_matrix = (liked @ neighbours).tocsr()
    reached.sort_indices()
    return reached


def _strongest_source(signs: UserProfile, neighbours: sparse.csr_matrix, user: IntArray, item: IntArray) -> IntArray:
    """The product of each user that leads to each given product most strongly, the lower row of equals: (m,) int64.

    What the users' products lead to is gone through a few users at a time, and what is not asked for is passed over.
    """
    n = neighbours.shape[1]
    strongest, because = np.full(len(user), -np.inf, np.float32), np.full(len(user), n, np.int64)
    step = max(1, _TABLE // max(1, n))
    place = np.full(step * n, -1, np.int64)  # of a user's product among the given ones
    bounds = np.arange(0, int(user[-1]) + 1 + step if len(user) else 0, step)
    ours, theirs = np.searchsorted(user, bounds), np.searchsorted(signs.user, bounds)
    for at in range(len(bounds) - 1):
        some, own = slice(ours[at], ours[at + 1]), slice(theirs[at], theirs[at + 1])
        cells = (user[some] - bounds[at]) * n + item[some]
        place[cells] = np.arange(some.start, some.stop)
        begins, liked = neighbours.indptr[signs.item[own]], signs.item[own]
        lengths = (neighbours.indptr[liked + 1] - begins).astype(np.int64)
        source = np.repeat(np.arange(len(lengths)), lengths)
        entry = np.arange(len(source)) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
        found = place[((signs.user[own] - bounds[at]) * n)[source] + neighbours.indices[entry]]
        asked = np.flatnonzero(found >= 0)
        found, source = found[asked], source[asked]
        part = signs.weight[own][source] * neighbours.data[entry[asked]]
        np.maximum.at(strongest, found, part)
        most = part == strongest[found]
        np.minimum.at(because, found[most], liked[source[most]])
        place[cells] = -1
    return because


def score_pairs(
    signs: UserProfile, neighbours: sparse.csr_matrix, users: int, user: IntArray, item: IntArray
) -> FloatArray:
    """The sums of `retrieve_neighbours` for m given pairs, 0 where nothing leads to the product: (m,) float32.

    Args:
        signs: the users' products.
        neighbours: (n, n) float32.
        users: b, users of the batch.
        user: (m,) position in the batch.
        item: (m,) product row.
    """
    n, reached = neighbours.shape[1], _neighbour_scores(signs, neighbours, users)
    keys = np.repeat(np.arange(users), np.diff(reached.indptr)) * n + reached.indices
    return lookup(keys, reached.data, user * n + item)


def iter_common_users(users: int, one: IntArray, other: IntArray) -> Iterator[tuple[int, slice, slice]]:
    """Each user with rows in both of two ascending lists of users: position, its rows in one, its rows in the other."""
    first, second = (np.searchsorted(held, np.arange(users + 1)) for held in (one, other))
    for user in np.flatnonzero((np.diff(first) > 0) & (np.diff(second) > 0)).tolist():
        yield user, slice(first[user], first[user + 1]), slice(second[user], second[user + 1])


def lookup(keys: IntArray, values: npt.NDArray[np.number], wanted: IntArray) -> FloatArray:
    """The value of each wanted key, 0 where it is not among the ascending `keys`: (m,) float32."""
    if not len(keys):
        return np.zeros(len(wanted), np.float32)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0).astype(np.float32)


def sum_and_top_k(user: IntArray, item: IntArray, part: FloatArray, because: IntArray, k: int) -> Candidates:
    """Sum parts that name the same (user, item), keep the k best of each user; `because` of the largest part."""
    if not len(user):
        return Candidates.empty()
    order = np.lexsort((because, -part, item, user))
    user, item, part, because = user[order], item[order], part[order], because[order]
    first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])])
    total = np.add.reduceat(part, first, dtype=np.float64).astype(np.float32)
    return top_k(user[first], item[first], total, because[first], k)


def top_k(user: IntArray, item: IntArray, score: FloatArray, because: IntArray, k: int) -> Candidates:
    """The k best of each user, ties by lower row, of pairs sorted by user, then item, as Candidates are."""
    kept = top_k_per_user(user, score, k)
    return Candidates(user[kept], item[kept], score[kept], np.zeros(len(kept), np.int16), because[kept])
