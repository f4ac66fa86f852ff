"""Item-based kNN: score products by the user's weighted history and each product's neighbours.

In: histories, a sparse neighbour matrix. Out: `Candidates`; the source item is the user's product that contributes
most.
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

_MAX_TABLE_CELLS = 1 << 22
"""Cells of a dense users x products table; fits a processor's cache."""


@dataclass(frozen=True)
class UserProfile:
    """The q distinct recent products of a batch of users, with weights.

    Attributes:
        user: (q,) int64 position in the batch, ascending.
        item: (q,) int64 product row.
        weight: (q,) float32 in 0..1, smaller for older products.
        n_newer: (q,) int64 number of the user's distinct products that came after it.
    """

    user: IntArray
    item: IntArray
    weight: FloatArray
    n_newer: IntArray


def build_user_profile(histories: Histories, *, max_items: int, decay: float) -> UserProfile:
    """Return the newest `max_items` distinct products of each user, weighted by event type and decay ** n_newer.

    The weights of the event types are those of the histories (`[data] event_weights`). A product that occurs twice
    counts at its newest event; if that is a return, the product is left out.
    """
    user, column = np.nonzero(histories.mask)
    item, event_type = histories.items[user, column], histories.event_types[user, column]
    is_newest = np.zeros(len(user), np.bool_)
    # Entries are by user, oldest first; in reversed order, the first of each (user, item) is its newest.
    key = (user * (int(item.max(initial=0)) + 1) + item)[::-1]
    is_newest[len(user) - 1 - np.unique(key, return_index=True)[1]] = True
    keep_mask = is_newest & (event_type != RETURN_CODE)
    user, item, event_type = user[keep_mask], item[keep_mask], event_type[keep_mask]
    ends = np.searchsorted(user, user, side="right")
    n_newer = ends - 1 - np.arange(len(user))
    recent = n_newer < max_items
    weight = (decay ** n_newer[recent]).astype(np.float32)
    weight *= np.array(histories.type_weights, np.float32)[event_type[recent]]
    return UserProfile(user[recent].astype(np.int64), item[recent], weight, n_newer[recent].astype(np.int64))


def top_k_per_row(rows: IntArray, columns: IntArray, values: FloatArray, n: int, *, k: int) -> sparse.csr_matrix:
    """Return (n, n) float32 with the k largest values of each row, ties by lower column."""
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    within_k = np.arange(len(rows)) - np.searchsorted(rows, rows) < k
    return sparse.csr_matrix((values[within_k].astype(np.float32), (rows[within_k], columns[within_k])), shape=(n, n))


def empty_neighbours(n: int) -> sparse.csr_matrix:
    """Return the (n, n) neighbour matrix of products without neighbours."""
    no_index = np.zeros(0, np.int64)
    return sparse.csr_matrix((np.zeros(0, np.float32), (no_index, no_index)), shape=(n, n))


def retrieve_neighbours(profile: UserProfile, neighbours: sparse.csr_matrix, k: int) -> Candidates:
    """Sum weight * similarity over a user's products; return the k best of each user, ties by lower row.

    Args:
        profile: the users' products.
        neighbours: (n, n) float32, row i holds the neighbours of product i; zero diagonal.
        k: candidates per user.

    Returns:
        Candidates; `source_item` is the product that contributes the largest term of the sum.
    """
    if not len(profile.user):
        return Candidates.empty()
    scores = _neighbour_scores(profile, neighbours, int(profile.user[-1]) + 1)
    user = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    best = top_k_per_user(user, scores.data, k)
    user, item, score = user[best], scores.indices[best].astype(np.int64), scores.data[best]
    source_item = _strongest_source(profile, neighbours, user, item)
    return Candidates(user, item, score, np.zeros(len(user), np.int16), source_item)


def _neighbour_scores(profile: UserProfile, neighbours: sparse.csr_matrix, n_users: int) -> sparse.csr_matrix:
    """Return the sums of weight * similarity for all neighbours of each user's products: (n_users, n), sorted."""
    shape = (n_users, neighbours.shape[1])
    user_items = sparse.csr_matrix((profile.weight, (profile.user, profile.item)), shape=shape)
    scores: sparse.csr_matrix = (user_items @ neighbours).tocsr()
    scores.sort_indices()
    return scores


def _strongest_source(profile: UserProfile, neighbours: sparse.csr_matrix, user: IntArray, item: IntArray) -> IntArray:
    """Return the user's product that contributes most to each (user, item), ties by lower row: (m,) int64.

    Walks all neighbours of the users' products, a block of users at a time, and skips pairs that are not requested.
    """
    n = neighbours.shape[1]
    best_part, source_item = np.full(len(user), -np.inf, np.float32), np.full(len(user), n, np.int64)
    step = max(1, _MAX_TABLE_CELLS // max(1, n))
    pair_of_cell = np.full(step * n, -1, np.int64)
    bounds = np.arange(0, int(user[-1]) + 1 + step if len(user) else 0, step)
    pair_bounds, profile_bounds = np.searchsorted(user, bounds), np.searchsorted(profile.user, bounds)
    for block in range(len(bounds) - 1):
        pair_rows = slice(pair_bounds[block], pair_bounds[block + 1])
        profile_rows = slice(profile_bounds[block], profile_bounds[block + 1])
        cells = (user[pair_rows] - bounds[block]) * n + item[pair_rows]
        pair_of_cell[cells] = np.arange(pair_rows.start, pair_rows.stop)
        starts, profile_item = neighbours.indptr[profile.item[profile_rows]], profile.item[profile_rows]
        lengths = (neighbours.indptr[profile_item + 1] - starts).astype(np.int64)
        source = np.repeat(np.arange(len(lengths)), lengths)
        entry = np.arange(len(source)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        pair = pair_of_cell[((profile.user[profile_rows] - bounds[block]) * n)[source] + neighbours.indices[entry]]
        requested = np.flatnonzero(pair >= 0)
        pair, source = pair[requested], source[requested]
        part = profile.weight[profile_rows][source] * neighbours.data[entry[requested]]
        np.maximum.at(best_part, pair, part)
        is_best = part == best_part[pair]
        np.minimum.at(source_item, pair[is_best], profile_item[source[is_best]])
        pair_of_cell[cells] = -1
    return source_item


def score_pairs(
    profile: UserProfile, neighbours: sparse.csr_matrix, n_users: int, user: IntArray, item: IntArray
) -> FloatArray:
    """Compute the sums of `retrieve_neighbours` for m pairs, 0 where no neighbour links them: (m,) float32.

    Args:
        profile: the users' products.
        neighbours: (n, n) float32.
        n_users: b, users of the batch.
        user: (m,) position in the batch.
        item: (m,) product row.
    """
    n, scores = neighbours.shape[1], _neighbour_scores(profile, neighbours, n_users)
    keys = np.repeat(np.arange(n_users), np.diff(scores.indptr)) * n + scores.indices
    return lookup(keys, scores.data, user * n + item)


def iter_common_users(n_users: int, first_user: IntArray, second_user: IntArray) -> Iterator[tuple[int, slice, slice]]:
    """Yield position, first rows and second rows of each user in both of two ascending columns.

    Args:
        n_users: users of the batch.
        first_user: (p,) user of each row, ascending.
        second_user: (q,) user of each row, ascending.
    """
    first, second = (np.searchsorted(column, np.arange(n_users + 1)) for column in (first_user, second_user))
    for user in np.flatnonzero((np.diff(first) > 0) & (np.diff(second) > 0)).tolist():
        yield user, slice(first[user], first[user + 1]), slice(second[user], second[user + 1])


def lookup(keys: IntArray, values: npt.NDArray[np.number], queries: IntArray) -> FloatArray:
    """Return the value of each query key, 0 where it is not among the ascending `keys`: (m,) float32."""
    if not len(keys):
        return np.zeros(len(queries), np.float32)
    index = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[index] == queries, values[index], 0.0).astype(np.float32)


def sum_and_top_k(user: IntArray, item: IntArray, part: FloatArray, source_item: IntArray, k: int) -> Candidates:
    """Sum the parts of each (user, item) and return the k best of each user.

    Args:
        user: (m,) position in the batch.
        item: (m,) product row.
        part: (m,) float32 terms of the scores.
        source_item: (m,) product row each part stems from; the largest part's is returned.
        k: candidates per user.
    """
    if not len(user):
        return Candidates.empty()
    order = np.lexsort((source_item, -part, item, user))
    user, item, part, source_item = user[order], item[order], part[order], source_item[order]
    first = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])])
    total = np.add.reduceat(part, first, dtype=np.float64).astype(np.float32)
    return top_k(user[first], item[first], total, source_item[first], k)


def top_k(user: IntArray, item: IntArray, score: FloatArray, source_item: IntArray, k: int) -> Candidates:
    """Return the k best pairs of each user, ties by lower row; the pairs are sorted by user, then item."""
    best = top_k_per_user(user, score, k)
    return Candidates(user[best], item[best], score[best], np.zeros(len(best), np.int16), source_item[best])
