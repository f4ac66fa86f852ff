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


# --- recommend -------------------------------------------------------------------------------------------------------


def taste(items, kinds, last, decay, worth, return_code):
    """Weights of one user's distinct products, `{item: (weight, back)}`; items oldest first, -1 = nothing."""
    newest = {}
    for place, (item, kind) in enumerate(zip(items, kinds, strict=True)):
        if item >= 0:
            newest[item] = (place, kind)
    order = sorted((item for item in newest if newest[item][1] != return_code), key=lambda item: -newest[item][0])
    return {item: (decay**back * worth[newest[item][1]], back) for back, item in enumerate(order[:last])}


def spread(signs, neighbours, k):
    """k best of sum weight * similarity as `[(item, score, because)]` by row; `signs` {item: weight}, dense matrix."""
    score, parts = {}, {}
    for item, weight in signs.items():
        for other, similarity in enumerate(neighbours[item]):
            if similarity:
                score[other] = score.get(other, 0.0) + weight * similarity
                parts.setdefault(other, []).append((-weight * similarity, item))
    best = sorted(score, key=lambda item: (-score[item], item))[:k]
    return sorted((item, score[item], min(parts[item])[1]) for item in best)


def item_item(baskets, n, shrinkage, own_share):
    """Shrunk cosine of the users two products share, a user counting 1 / log2(1 + products): n lists of n."""
    from math import log2

    sets = [set(basket) for basket in baskets]
    count = [sum(item in basket for basket in sets) for item in range(n)]
    out = [[0.0] * n for _ in range(n)]
    for one in range(n):
        for other in range(n):
            if one != other:
                shared = sum(1 / log2(1 + len(basket)) for basket in sets if one in basket and other in basket)
                norm = count[one] ** own_share * count[other] ** (1 - own_share) + shrinkage
                out[one][other] = shared / norm
    return out


# --- evaluate --------------------------------------------------------------------------------------------------------


def metrics(items, wanted, k):
    """HR, NDCG and AP at k of one list (-1 = nothing) against a set of targets."""
    from math import log2

    seen, gained, correct, precision = set(), 0.0, 0, 0.0
    for rank, item in enumerate(items[:k], start=1):
        if item >= 0 and item in wanted and item not in seen:
            correct += 1
            gained += 1 / log2(rank + 1)
            precision += correct / rank
        seen.add(item)
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(len(wanted), k) + 1))
    return float(correct > 0), gained / ideal, precision / min(len(wanted), k)
