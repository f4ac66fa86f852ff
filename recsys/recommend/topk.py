"""The scorer: the k largest inner products of each query with all items, exact, in blocks, ties by the lower row.

In: queries (b, d), items (n, d), what may be returned.
Out: scores (b, k) descending and rows (b, k); none = (-inf, -1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def top_k(
    queries: Floats,
    items: Floats,
    k: int,
    *,
    allowed: npt.NDArray[np.bool_] | None = None,
    excluded: tuple[Rows, Rows] | None = None,
    block: tuple[int, int] = (512, 32_768),
    device: str = "cpu",
) -> tuple[Floats, Rows]:
    """Find the k best items of each query.

    Memory is bounded by one block of scores (64 MB as it stands), whatever b and n are. The same inputs and blocks
    give the same bytes on one machine.

    Args:
        queries: (b, d).
        items: (n, d).
        k: length of the lists; more than n gives empty places at the end.
        allowed: (n,) bool, items that may be returned; default all.
        excluded: pairs (position of the query, item row) that may not be returned, e.g. what a user has bought.
        block: queries and items scored at once.
        device: where the products are taken.

    Returns:
        scores (b, k) float32 descending, rows (b, k) int64; (-inf, -1) where there is no further item.
    """
    b, n = len(queries), len(items)
    scores = np.full((b, k), -np.inf, np.float32)
    rows = np.full((b, k), -1, np.int64)
    if not n or not b or not k:
        return scores, rows
    pairs = _by_query(excluded, b)
    for start in range(0, b, block[0]):
        stop = min(start + block[0], b)
        asked = torch.tensor(queries[start:stop], device=device)
        best = torch.full((stop - start, k), -torch.inf, device=device)
        found = torch.full((stop - start, k), -1, dtype=torch.int64, device=device)
        for first in range(0, n, block[1]):
            last = min(first + block[1], n)
            part = asked @ torch.tensor(items[first:last], device=device).T
            _forbid(part, allowed, pairs, (start, stop), (first, last))
            value, at = _largest(part, k)
            best, found = _merge(best, found, value, torch.where(at >= 0, at + first, at), k)
        scores[start:stop] = best.cpu().numpy()
        rows[start:stop] = found.cpu().numpy()
    return scores, rows


def largest(scores: Floats, k: int) -> tuple[Floats, Rows]:
    """The k largest of each row of a dense block, descending, ties by the lower column; -inf is never returned."""
    value, at = _largest(torch.tensor(scores), min(k, scores.shape[1]))
    b = len(scores)
    best, found = torch.full((b, 0), -torch.inf), torch.full((b, 0), -1, dtype=torch.int64)
    value, at = _merge(best, found, value, at, k)
    return value.numpy(), at.numpy()


def _by_query(excluded: tuple[Rows, Rows] | None, b: int) -> tuple[Rows, Rows, Rows] | None:
    """Excluded pairs sorted by query, and where each query's pairs begin: (b + 1,)."""
    if excluded is None or not len(excluded[0]):
        return None
    order = np.argsort(excluded[0], kind="stable")
    query, item = excluded[0][order], excluded[1][order]
    return query, item, np.searchsorted(query, np.arange(b + 1))


def _forbid(
    part: torch.Tensor,
    allowed: npt.NDArray[np.bool_] | None,
    pairs: tuple[Rows, Rows, Rows] | None,
    queries: tuple[int, int],
    items: tuple[int, int],
) -> None:
    """Set the scores of what may not be returned to -inf, in place."""
    if allowed is not None:
        barred = torch.tensor(~allowed[items[0] : items[1]], device=part.device)
        part.masked_fill_(barred[None, :], -torch.inf)
    if pairs is not None:
        query, item, starts = pairs
        at = slice(int(starts[queries[0]]), int(starts[queries[1]]))
        inside = (item[at] >= items[0]) & (item[at] < items[1])
        row = torch.tensor(query[at][inside] - queries[0], device=part.device)
        part[row, torch.tensor(item[at][inside] - items[0], device=part.device)] = -torch.inf


def _largest(part: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row, among equal ones those with the lower column; -inf is never returned."""
    width = min(k, part.shape[1])
    value, at = part.topk(min(width + 1, part.shape[1]), dim=1)
    # topk may take any of the columns that tie with the last place: where there are more of them than places, choose.
    bound = value[:, width - 1 : width].clone()
    more = (value[:, -1] == bound[:, 0]) & torch.isfinite(bound[:, 0]) & (value.shape[1] > width)
    value, at = value[:, :width].clone(), at[:, :width].clone()
    for row in torch.nonzero(more)[:, 0].tolist():
        above = torch.nonzero(part[row] > bound[row])[:, 0]
        equal = torch.nonzero(part[row] == bound[row])[:, 0][: width - len(above)]
        at[row] = torch.cat([above, equal])
        value[row] = part[row, at[row]]
    return value, torch.where(torch.isfinite(value), at, -1)


def _merge(
    best: torch.Tensor, found: torch.Tensor, value: torch.Tensor, at: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of two lists of lists, by descending score, then by row."""
    values, rows = torch.cat([best, value], dim=1), torch.cat([found, at], dim=1)
    by_row = torch.argsort(torch.where(rows < 0, torch.iinfo(torch.int64).max, rows), dim=1, stable=True)
    values, rows = values.gather(1, by_row), rows.gather(1, by_row)
    order = torch.argsort(values, dim=1, descending=True, stable=True)[:, :k]
    return values.gather(1, order), rows.gather(1, order)
