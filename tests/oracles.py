"""Slow answers that are plainly right, one section a room.

In: small inputs. Out: what the fast code must give.
"""

from __future__ import annotations

# --- vectors ---------------------------------------------------------------------------------------------------------


def nearest(vectors, queries, k, allow=None):
    """Rows by inner product, sorted in plain Python: a list of (score, row) per query, at most k long."""
    rows = [row for row in range(len(vectors)) if allow is None or allow[row]]
    out = []
    for query in queries.tolist():
        scored = [(sum(a * b for a, b in zip(vectors[row].tolist(), query, strict=True)), row) for row in rows]
        out.append(sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:k])
    return out
