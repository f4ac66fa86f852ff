"""The blend: one weight a feature, fitted so that what users bought next stands above the other candidates.

In: features of the candidates of some users, and which of them were bought. Out: `LinearRanker`, kept as JSON.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.errors import ModelFolderError
from recsys.recommend.ranking import features
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

log = logging.getLogger(__name__)
FORMAT = 2


class Ranker(Protocol):
    """Puts candidates in order; `LinearRanker` is one, `trees.Trees` another."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources it was fitted for, in order."""
        ...

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each candidate, comparable within a user: (m,) float32."""
        ...

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """What each source's own features add to the score: (m, s) float32."""
        ...


def rank_scores(ranker: Ranker, x: FloatArray, user: IntArray, real: BoolArray) -> FloatArray:
    """Score of each candidate, comparable within a user: (m,) float32.

    A ranker is fitted on users with a history. What sells is the best order there is for the others: a ranker could
    only learn which products sold in the windows it was fitted on, and the next day sells others.

    Args:
        ranker: for its sources.
        x: (m, f) features.
        user: (m,) position in the batch.
        real: (b, t) bool, the events of each user.
    """
    score = ranker.score(x)
    if "popular" in ranker.sources:
        cold = ~np.asarray(real.any(axis=1))[user]
        score[cold] = x[cold, features.feature_names(ranker.sources).index("popular.place")]
    return score


@dataclass(frozen=True)
class LinearRanker:
    """A linear score of standardised features.

    Attributes:
        sources: the sources it was fitted for, in order.
        names: f feature names.
        mean: (f,) subtracted first.
        scale: (f,) divided by then.
        weight: (f,) of each feature.
        cases: users it was fitted on, 0 = not fitted, equal weights.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...]
    mean: DoubleArray
    scale: DoubleArray
    weight: DoubleArray
    n_users: int

    @property
    def coefficients(self) -> DoubleArray:
        """(f,) what one unit of each feature adds to the score."""
        return self.weight / self.scale

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each candidate, comparable within a user: (m,) float32."""
        out = np.full(len(x), -(self.mean @ self.coefficients))
        wide = np.empty(len(x))
        for column, slope in zip(
            x.T, self.coefficients.tolist(), strict=True
        ):  # each pair by itself, whatever is beside it
            out += np.multiply(column, slope, out=wide)
        return out.astype(np.float32)

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """What each source's own features add to the score: (m, s) float32."""
        parts = [x[:, at] @ self.coefficients[at] for at in (self._of(source) for source in self.sources)]
        return np.stack(parts, axis=1).astype(np.float32)

    def _of(self, source: str) -> list[int]:
        return [at for at, name in enumerate(self.names) if name.startswith(f"{source}.")]

    def to_json(self) -> str:
        """The blend as text; `from_json` gives the same numbers again."""
        return json.dumps(
            {
                "format": FORMAT,
                "sources": list(self.sources),
                "cases": self.n_users,
                "features": [
                    {"name": name, "mean": mean, "scale": scale, "weight": weight}
                    for name, mean, scale, weight in zip(
                        self.names, self.mean.tolist(), self.scale.tolist(), self.weight.tolist(), strict=True
                    )
                ],
            },
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> LinearRanker:
        """Read what `to_json` wrote.

        Raises:
            ModelFolderError: the text is no blend, or one of another version of the features.
        """
        try:
            held = json.loads(text)
            sources, rows = tuple(held["sources"]), held["features"]
            numbers = np.array([[row["mean"], row["scale"], row["weight"]] for row in rows], np.float64).reshape(-1, 3)
            blend = LinearRanker(
                sources,
                tuple(row["name"] for row in rows),
                numbers[:, 0],
                numbers[:, 1],
                numbers[:, 2],
                int(held["cases"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(f"the blend cannot be read ({error}); fit it again with: train ranker") from error
        if held.get("format") != FORMAT or list(blend.names) != features.feature_names(sources):
            raise ModelFolderError("the blend was fitted by another version; fit it again with: train ranker")
        if not np.isfinite(numbers).all() or (blend.scale <= 0).any():
            raise ModelFolderError("the blend holds a number that is none; fit it again with: train ranker")
        return blend


def equal_weights(sources: Sequence[str]) -> LinearRanker:
    """The blend without data: relative score and place of the sources count the same.

    But for `repurchase`, which counts more, and for what is merely popular or new, which counts less.
    """
    names = features.feature_names(sources)
    worth = {"repurchase": 2.0, "popular": 0.2, "cluster": 0.2, "fresh": 0.2}
    weight = [worth.get(name.split(".")[0], 1.0) if name.endswith((".relative", ".place")) else 0.0 for name in names]
    f = len(names)
    return LinearRanker(tuple(sources), tuple(names), np.zeros(f), np.ones(f), np.array(weight), 0)


def fit_conditional_logit(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    *,
    sources: Sequence[str],
    ridge: float = 3.0,
    least_cases: int = 50,
    most_cases: int = 6000,
    negatives: int = 50,
) -> LinearRanker:
    """Fit the weights by conditional logit: a bought candidate against all candidates of the same user (McFadden 1974).

    Deterministic: full batch, double precision, L-BFGS from equal weights of zero.

    Args:
        x: (m, f) features in the order of `features.names(sources)`.
        user: (m,) user of each row, ascending.
        bought: (m,) was it bought afterwards.
        sources: their names in order.
        ridge: penalty on the squared weights, in users.
        least_cases: with fewer users who bought one of their candidates, weights stay equal and a warning says so.
        most_cases: of more users so many, evenly spread, are fitted on: so few weights need no more.
        negatives: candidates of a user that were not bought, drawn where there are more: with alternatives drawn
            evenly the logit still finds the same weights (McFadden 1978).

    Returns:
        The blend.
    """
    from scipy.optimize import minimize

    has = np.isin(user, np.unique(user[bought]))
    x, user, bought = x[has], user[has], bought[has]
    _, group = np.unique(user, return_inverse=True)
    cases = int(group.max(initial=-1)) + 1
    if cases < least_cases:
        log.warning(
            "blend not fitted: only %d users bought one of their candidates in the window (at least %d are needed); "
            "the sources count the same",
            cases,
            least_cases,
        )
        return equal_weights(sources)
    kept = np.isin(group, np.linspace(0, cases - 1, min(cases, most_cases)).astype(np.int64))
    kept &= sample_negatives(group, bought, negatives, np.random.default_rng(cases))
    x, bought = x[kept], bought[kept]
    _, group = np.unique(group[kept], return_inverse=True)
    cases = min(cases, most_cases)
    mean = x.mean(axis=0, dtype=np.float64)
    scale = x.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1.0
    z = ((x - mean) / scale).astype(np.float64)
    starts = np.searchsorted(group, np.arange(cases))
    share = bought / np.add.reduceat(bought.astype(np.float64), starts)[group]

    def loss(weight: DoubleArray) -> tuple[float, DoubleArray]:
        score = z @ weight
        score -= np.maximum.reduceat(score, starts)[group]
        power = np.exp(score)
        total = np.add.reduceat(power, starts)
        value = float(np.log(total).sum() - share @ score + 0.5 * ridge * weight @ weight)
        return value, z.T @ (power / total[group] - share) + ridge * weight

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-8})
    return LinearRanker(tuple(sources), tuple(features.feature_names(sources)), mean, scale, found.x, cases)


def sample_negatives(user: IntArray, bought: BoolArray, most: int, g: np.random.Generator) -> BoolArray:
    """All that were bought and `most` of the others of each user: (m,) bool."""
    order = np.lexsort((g.random(len(user)), bought, user))
    place = np.arange(len(order)) - np.searchsorted(user[order], user[order])
    out = np.empty(len(order), np.bool_)
    out[order] = place < most
    return out | bought
