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


def transitions(histories, n, steps):
    """Share of each product among what followed another: n lists of n; histories of (time, item, worth)."""
    out = [[0.0] * n for _ in range(n)]
    for own in histories:
        moments = sorted({time for time, _, _ in own})
        for before, one, _ in own:
            for after, other, worth in own:
                apart = moments.index(after) - moments.index(before)
                if one != other and 1 <= apart <= steps:
                    out[one][other] += worth / apart
    return [[value / (sum(row) or 1.0) for value in row] for row in out]


def ease(baskets, n, ridge, members):
    """B = I - P diag(1 / diag P), P the inverse of X'X + ridge, over the products `members`: (n, n), the rest 0."""
    import numpy as np

    bought = np.array([[item in basket for item in members] for basket in baskets], np.float64)
    inverse = np.linalg.inv(bought.T @ bought + ridge * np.eye(len(members)))
    out = np.zeros((n, n))
    out[np.ix_(members, members)] = np.eye(len(members)) - inverse @ np.diag(1 / np.diag(inverse))
    return out


def cluster(signs, groups, popularity):
    """Share of the taste in a product's group times its share of the group's sales; `signs` {item: weight}."""
    whole, out = sum(signs.values()), []
    for item, group in enumerate(groups):
        liked = sum(weight for other, weight in signs.items() if groups[other] == group)
        sold = sum(popularity[other] for other in range(len(groups)) if groups[other] == group)
        out.append(liked / whole * popularity[item] / sold if whole and sold else 0.0)
    return out


def fresh(signs, content, new):
    """The largest weight * cosine of each new product, 0 at least; `signs` {item: weight}, content lists of floats."""
    out = []
    for item, own in enumerate(content):
        near = [
            weight * sum(a * b for a, b in zip(own, content[other], strict=True)) for other, weight in signs.items()
        ]
        out.append(max([0.0, *near]) if new[item] else 0.0)
    return out


def new_products(created, first, now, days):
    """Is each product new: by the moment it was created, else by its first event, else it is; None = not known."""
    since = [one if one is not None else other for one, other in zip(created, first, strict=True)]
    return [moment is None or moment >= now - days * 86_400 for moment in since]


def relative(score, others):
    """A score between the lowest (or 0) and the highest of all the user's scores."""
    low, high = min(0.0, *others, 0.0), max(others)
    return (score - low) / (high - low) if high > low else 0.0


def product_facts(row, events, *, now, days, price, category, group):
    """Columns about one product, by name; events of (item, time) without returns; the others by product."""
    from math import log, log1p

    own = [(now - time) / 86_400 for item, time in events if item == row]
    fresh, longer = sum(ago <= days for ago in own), sum(ago <= 4 * days for ago in own)
    season, whole = 0.0, [(now - time) / 86_400 for item, time in events if category[item] == category[row]]
    if category[row] is not None and events and now - min(time for _, time in events) >= 365.25 * 86_400:
        here = sum(min(abs(ago - 365.25 * year) for year in range(12)) <= 30.44 / 2 for ago in whole)
        season = log((1 + here) / (1 + len(whole) * 30.44 / 365.25))
    return {
        "lately": log1p(fresh),
        "ever": log1p(len(own)),
        "never": float(not own),
        "age": log1p(max(own)) if own else 0.0,
        "quiet": log1p(min(own)) if own else 0.0,
        "trend": log1p(fresh) - log1p(longer / 4),
        "price": log(price[row]) if price[row] else 0.0,
        "season": season,
        "kin": log1p(sum(item != row and group[item] == group[row] for item, _ in events) if group[row] else 0),
    }


def user_facts(history, *, now, price):
    """Columns about one user, by name; history of (item, time), oldest first."""
    from math import log, log1p
    from statistics import median, pstdev

    prices = [log(price[item]) for item, _ in history if price[item]]
    return {
        "length": log1p(len(history)),
        "distinct": len({item for item, _ in history}) / max(1, len(history)),
        "away": log1p((now - history[-1][1]) / 86_400) if history else 0.0,
        "price": median(prices) if prices else 0.0,
        "spread": pstdev(prices) if prices else 0.0,
    }


def fit_facts(history, row, *, content, price, brand, category, group):
    """Columns about one user and one product, by name; history of product rows, oldest first."""
    from math import log, log1p
    from statistics import median

    near = [sum(a * b for a, b in zip(content[row], content[item], strict=True)) for item in history[-10:]]
    kin = [back for back, item in enumerate(reversed(history)) if group[item] == group[row] and group[row]]
    prices = [log(price[item]) for item in history if price[item]]
    dearer = log(price[row]) - median(prices) if price[row] and prices else 0.0

    def share(of):
        return sum(of[item] == of[row] for item in history) / len(history) if history and of[row] is not None else 0.0

    return {
        "near_newest": near[-1] if near else 0.0,
        "near_most": max(near, default=0.0),
        "near_mean": sum(near) / max(1, len(near)),
        "same_brand": share(brand),
        "same_category": share(category),
        "same_group": share(group),
        "group_lately": 1 / (1 + min(kin)) if kin else 0.0,
        "dearer": dearer,
        "price_gap": abs(dearer),
        "again": log1p(history.count(row)),
    }


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


def more_metrics(items, wanted, k):
    """Reciprocal rank, recall and precision at k of one list (-1 = nothing) against a set of targets."""
    first, correct = 0.0, set()
    for rank, item in enumerate(items[:k], start=1):
        if item in wanted and item not in correct:
            correct.add(item)
            first = first or 1 / rank
    return first, len(correct) / len(wanted), len(correct) / k


def debiased_recall(lists, targets, counts, k, power=0.5):
    """Popularity-stratified recall of all users together: worth of the targets found / worth of all targets."""
    worth = {item: (count + 1) ** -power for item, count in enumerate(counts)}
    found = sum(worth[item] for row, wanted in zip(lists, targets, strict=True) for item in set(row[:k]) & set(wanted))
    return found / sum(worth[item] for wanted in targets for item in set(wanted))


def diversity(items, vectors):
    """1 - mean inner product over all pairs of one list, NaN for fewer than two products."""
    held = [item for item in items if item >= 0]
    pairs = [(a, b) for at, a in enumerate(held) for b in held[at + 1 :]]
    if not pairs:
        return float("nan")
    return 1 - sum(sum(x * y for x, y in zip(vectors[a], vectors[b], strict=True)) for a, b in pairs) / len(pairs)


def calibration(items, history, groups, alpha=0.01):
    """KL divergence of the history's mix of groups from the list's, smoothed by alpha; NaN without a known group."""
    from math import log

    def mix(some):
        known = [groups[item] for item in some if item >= 0 and groups[item] >= 0]
        return {group: known.count(group) / len(known) for group in known}

    p, q = mix(history), mix(items)
    if not p:
        return float("nan")
    return sum(share * log(share / ((1 - alpha) * q.get(group, 0.0) + alpha * share)) for group, share in p.items())


def gini(counts):
    """Gini index by its definition: mean difference of all pairs / twice the mean."""
    n, mean = len(counts), sum(counts) / len(counts)
    return sum(abs(a - b) for a in counts for b in counts) / (2 * n * n * mean)


def ease_by_ridge(baskets, n, regularization):
    """Each product's column by ridge regression on the other products (what EASE solves at once): n x n."""
    import numpy as np

    x = np.array([[float(item in basket) for item in range(n)] for basket in baskets])
    out = np.zeros((n, n))
    for item in range(n):
        rest = [other for other in range(n) if other != item]
        a = x[:, rest].T @ x[:, rest] + regularization * np.eye(n - 1)
        out[rest, item] = np.linalg.solve(a, x[:, rest].T @ x[:, item])
    return out


def least_squares(basket, other, alpha, regularization):
    """Factors of one user by the normal equations with every cell's confidence written out (Hu et al. 2008)."""
    import numpy as np

    liked = np.array([float(item in basket) for item in range(len(other))])
    confidence = np.diag(1 + alpha * liked)
    a = other.T @ confidence @ other + regularization * np.eye(other.shape[1])
    return np.linalg.solve(a, other.T @ confidence @ liked)
