"""What vectors are worth: finding a text by its picture, and telling attributes by neighbours and by a linear probe.

In: vectors of products by view. Out: one number a product held back, by metric and view.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from representation_parts import Divided
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from recsys.evaluate.significance import bootstrap_interval
from recsys.types import DoubleArray, IntArray

Matrix = Any
"""(n, d) numbers, a numpy array or a sparse matrix."""
Found = dict[tuple[str, str], DoubleArray]
"""By metric and slice, a number for each product held back."""
NEIGHBOURS = 20
_SAMPLES = 500


@dataclass(frozen=True)
class Space:
    """What one system makes of the products.

    Attributes:
        known: view to vectors of the products with a picture that may be learned from.
        asked: view to vectors of those held back.
        meets: whether its text view and its image view lie in one space.
        votes: whether neighbours and probes are asked, too.
    """

    known: dict[str, Matrix] = field(repr=False)
    asked: dict[str, Matrix] = field(repr=False)
    meets: bool = False
    votes: bool = True


def nearest(queries: Matrix, keys: Matrix, k: int) -> IntArray:
    """Rows of the k keys of largest cosine to each query, best first, of equals the first row: (q, k)."""
    scores = normalize(queries) @ normalize(keys).T
    scores = scores.toarray() if sparse.issparse(scores) else np.asarray(scores)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def retrieval(queries: Matrix, keys: Matrix, texts: Sequence[str], name: str) -> dict[str, DoubleArray]:
    """Is the other view of a product among the first 1 and 10: (n,) each.

    Products with the very same text count as right together, for no text tells them apart; `strict` = the one alone.
    """
    code = np.unique(np.asarray(texts, dtype=str), return_inverse=True)[1]
    found = nearest(queries, keys, 10)
    same, own = code[found] == code[:, None], found == np.arange(len(found))[:, None]
    out = {}
    for k in (1, 10):
        out[f"{name}_recall@{k}"] = same[:, :k].any(1).astype(float)
        out[f"{name}_strict@{k}"] = own[:, :k].any(1).astype(float)
    return out


def met(space: Space, shop: Divided) -> Found:
    """Pictures to texts and back, where both lie in one space."""
    out: Found = {}
    for name, a, b in (("i2t", "image", "text"), ("t2i", "text", "image")) if space.meets else ():
        for metric, values in retrieval(space.asked[a], space.asked[b], shop.test.texts, name).items():
            out[metric, a] = values
    return out


def vote(found: IntArray, labels: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Most frequent label of each row's neighbours; of equals the one with the nearest neighbour: (q,)."""
    names, code = np.unique(labels.astype(str), return_inverse=True)
    held = code[found]
    count = np.zeros((len(found), len(names)))
    # The small share decides between equals, and never between others.
    weight = 1 + 1e-3 * 0.5 ** np.arange(found.shape[1])
    np.add.at(count, (np.arange(len(found))[:, None], held), weight)
    return names[count.argmax(1)].astype(object)


def probe(known: Matrix, labels: npt.NDArray[np.object_], asked: Matrix) -> npt.NDArray[np.object_]:
    """Labels guessed by logistic regression on standardised vectors: (q,)."""
    names = labels.astype(str)
    if len(np.unique(names)) == 1:
        return np.full(asked.shape[0], names[0], object)
    scale = StandardScaler(with_mean=not sparse.issparse(known))
    model = make_pipeline(scale, LogisticRegression(max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is as good as it gets on the products held back
        model.fit(known, names)
    return model.predict(asked).astype(object)


def judged(space: Space, shop: Divided, *, probes: bool = True) -> Found:
    """All measures of one system; `probes` = fit the linear probes, too."""
    out = met(space, shop)
    known, asked = shop.train.take(shop.train.pictured).labels, shop.test.labels
    for view in space.asked if space.votes else ():
        found = nearest(space.asked[view], space.known[view], NEIGHBOURS)
        for name, labels in known.items():
            truth = asked[name].astype(str)
            out[f"knn20_{name}", view] = (vote(found, labels) == truth).astype(float)
            if probes:
                guess = probe(space.known[view], labels, space.asked[view])
                out[f"linear_{name}", view] = (guess == truth).astype(float)
    return out


def by_chance(shop: Divided) -> Found:
    """What retrieval reaches in random order, and attributes by always naming the most frequent value."""
    texts = shop.test.texts
    n = len(texts)
    code, counts = np.unique(np.asarray(texts, dtype=str), return_inverse=True, return_counts=True)[1:]
    out: Found = {}
    for k in (1, 10):
        # Chance that none of k rows drawn without repetition is one of the m right ones.
        drawn, m = np.arange(min(k, n)), counts[code][:, None]
        none = np.clip((n - m - drawn) / (n - drawn), 0, 1).prod(1)
        for name, view in (("i2t", "image"), ("t2i", "text")):
            out[f"{name}_recall@{k}", view] = 1 - none
            out[f"{name}_strict@{k}", view] = np.full(n, len(drawn) / n)
    for name, labels in shop.train.take(shop.train.pictured).labels.items():
        values, times = np.unique(labels.astype(str), return_counts=True)
        out[f"knn20_{name}", "all"] = (shop.test.labels[name].astype(str) == values[times.argmax()]).astype(float)
    return out


def summed_up(name: str, runs: Sequence[Found]) -> list[dict[str, object]]:
    """Rows of the table: the mean, between the extremes of several trainings or in its 95 % interval over products."""
    out: list[dict[str, object]] = []
    for metric, view in runs[0]:
        means = [float(run[metric, view].mean()) for run in runs]
        low, high = (
            (min(means), max(means)) if len(runs) > 1 else bootstrap_interval(runs[0][metric, view], samples=_SAMPLES)
        )
        value = float(np.mean(means))
        out.append({"system": name, "metric": metric, "value": value, "low": low, "high": high, "slice": view})
    return out
