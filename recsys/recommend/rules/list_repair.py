"""Find a list that has `min_new` new products within all caps, where the greedy selection found none but one exists.

In: a `RankedPool`, the greedy `Selection`, the list constraints. Out: `Selection`; lists that keep all rules stay.

The greedy selection spends the places of a brand on the best products of that brand; the new product that is needed
later may then be over the cap. Here the new products are chosen first, which is exact with one cap (a partition
matroid); with several caps an integer program decides where that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recsys.recommend.rules.list_constraints import (
    ListConstraint,
    MarginalGain,
    MaxPerValue,
    MinNewProducts,
    RankedPool,
    Selection,
    select_greedy,
)
from recsys.types import BoolArray, IntArray

_Caps = list[tuple[IntArray, int]]
"""Per cap: the code of each candidate's value, -1 = none, and the maximum per value."""


def repair_lists(
    pool: RankedPool,
    k: int,
    selection: Selection,
    *,
    constraints: Sequence[ListConstraint],
    begin_gain: Callable[[RankedPool, IntArray], MarginalGain] | None,
) -> Selection:
    """Replace the lists that miss a new product or break a cap by ones that do not, where there are any.

    Args:
        pool: ranked candidates of b users.
        k: length of a list.
        selection: the greedy selection from the pool.
        constraints: the rules; nothing is done unless there are caps and `min_new` among them.
        begin_gain: starts the marginal gain of some users (pool, their positions), which orders their new lists.
    """
    caps = [rule for rule in constraints if isinstance(rule, MaxPerValue)]
    new = next((rule for rule in constraints if isinstance(rule, MinNewProducts)), None)
    if new is None or not caps:
        return selection
    is_new = new.new_mask[pool.item] & (pool.row >= 0)
    users, members = [], []
    for user in _users_to_repair(selection, is_new, min(new.min_count, k)).tolist():
        columns = np.flatnonzero(pool.row[user] >= 0)
        codes: _Caps = [(rule.codes[pool.item[user, columns]], rule.max_count) for rule in caps]
        size = min(k, len(columns))
        needed = min(new.min_count, size, int(is_new[user].sum()))
        found = _find_list(pool.score[user, columns], is_new[user, columns], codes, size=size, needed=needed)
        taken = selection.column[user][selection.column[user] >= 0]
        if found is not None and (
            selection.over_cap[user].any() or is_new[user, columns[found]].sum() > is_new[user, taken].sum()
        ):
            users.append(user)
            members.append(columns[found])
    if not users:
        return selection
    rows = np.array(users, np.int64)
    row = np.full((len(rows), pool.row.shape[1]), -1, np.int64)
    for position, columns in enumerate(members):
        row[position, columns] = pool.row[rows[position], columns]
    chosen = RankedPool(row, pool.item[rows], pool.score[rows])
    ordered = select_greedy(chosen, k, constraints=[], gain=begin_gain(chosen, rows) if begin_gain else None)
    column, over_cap = selection.column.copy(), selection.over_cap.copy()
    column[rows], over_cap[rows] = ordered.column, False
    return replace(selection, column=column, over_cap=over_cap)


def _users_to_repair(selection: Selection, is_new: BoolArray, min_count: int) -> IntArray:
    """Return the users whose list has fewer new products than it could, or a product over a cap."""
    position = np.arange(len(is_new))[:, None]
    listed_new = (is_new[position, np.maximum(selection.column, 0)] & (selection.column >= 0)).sum(axis=1)
    misses_new = listed_new < np.minimum(is_new.sum(axis=1), min_count)
    return np.flatnonzero(misses_new | selection.over_cap.any(axis=1))


def _find_list(score: np.ndarray, is_new: BoolArray, caps: _Caps, *, size: int, needed: int) -> IntArray | None:
    """Return `size` of c candidates within all caps with as many new ones as possible, up to `needed`; None = none."""
    counts: list[dict[int, int]] = [{} for _ in caps]

    def take(candidate: int) -> bool:
        values = [int(codes[candidate]) for codes, _ in caps]
        for value, count, (_, max_count) in zip(values, counts, caps, strict=True):
            if value >= 0 and count.get(value, 0) >= max_count:
                return False
        for value, count in zip(values, counts, strict=True):
            count[value] = count.get(value, 0) + 1
        return True

    chosen: list[int] = []
    for candidate in np.flatnonzero(is_new).tolist():
        if len(chosen) == needed:
            break
        if take(candidate):
            chosen.append(candidate)
    n_new, first = len(chosen), set(chosen)
    for candidate in range(len(score)):
        if len(chosen) == size:
            break
        if candidate not in first and take(candidate):
            chosen.append(candidate)
    if len(chosen) == size and (n_new == needed or len(caps) == 1):
        return np.sort(np.array(chosen, np.int64))
    return None if len(caps) == 1 else _solve(score, is_new, caps, size=size, needed=needed)


def _solve(score: np.ndarray, is_new: BoolArray, caps: _Caps, *, size: int, needed: int) -> IntArray | None:
    """Solve `_find_list` as an integer program: one variable per candidate, and one for the new ones that count."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    n = len(score)
    rows, upper = [], []
    for codes, max_count in caps:
        for value in np.unique(codes[codes >= 0]):
            rows.append(np.r_[codes == value, False].astype(np.float64))
            upper.append(float(max_count))
    rows.append(np.r_[-is_new.astype(np.float64), 1.0])  # the new ones that count are in the list
    upper.append(0.0)
    value_range = max(float(np.ptp(score)), 1e-9)
    objective = -np.r_[(score - score.min()) / value_range, float(size + 1)]
    solution = milp(
        objective,
        integrality=np.ones(n + 1, np.int64),
        bounds=Bounds(0, np.r_[np.ones(n), float(needed)]),
        constraints=[
            LinearConstraint(np.array(rows), -np.inf, np.array(upper)),
            LinearConstraint(np.r_[np.ones(n), 0.0][None, :], size, size),
        ],
    )
    return None if solution.x is None else np.flatnonzero(np.asarray(solution.x)[:n] > 0.5)
