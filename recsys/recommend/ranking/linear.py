"""The linear ranker: one weight per feature, fitted so that bought candidates score above the user's other candidates.

In: features of the candidates of a sample of users, and which candidates were bought. Out: `LinearRanker`, as JSON.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.errors import ModelFolderError
from recsys.recommend.ranking.features import feature_names
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
"""Version of the JSON format."""


class Ranker(Protocol):
    """Scores candidates; implemented by `LinearRanker` and `boosted_trees.BoostedTreesRanker`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The candidate sources it was fitted for, in order."""
        ...

    def score(self, x: FloatArray) -> FloatArray:
        """Score each candidate, comparable within a user: (m,) float32."""
        ...

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """Compute the part of the score that each source's own features contribute: (m, s) float32."""
        ...


def rank_scores(ranker: Ranker, x: FloatArray, user: IntArray, event_mask: BoolArray) -> FloatArray:
    """Score each candidate, comparable within a user; users without events get the order of `popular`.

    A ranker is fitted on users with a history. For the others, current popularity is the best order available: a
    ranker could only learn which products sold in its training windows, and other products sell the next day.

    Args:
        ranker: for its sources.
        x: (m, f) features.
        user: (m,) position in the batch.
        event_mask: (b, t) bool, the events of each user.

    Returns:
        (m,) float32.
    """
    score = ranker.score(x)
    if "popular" in ranker.sources:
        cold = ~np.asarray(event_mask.any(axis=1))[user]
        score[cold] = x[cold, feature_names(ranker.sources).index("popular.place")]
    return score


@dataclass(frozen=True)
class LinearRanker:
    """A linear score of standardised features.

    Attributes:
        sources: the candidate sources it was fitted for, in order.
        feature_names: f feature names.
        mean: (f,) subtracted from each feature.
        scale: (f,) divides the centred feature.
        weight: (f,) weight of each standardised feature.
        n_users: users it was fitted on, 0 = not fitted, equal weights.
    """

    sources: tuple[str, ...]
    feature_names: tuple[str, ...]
    mean: DoubleArray
    scale: DoubleArray
    weight: DoubleArray
    n_users: int

    @property
    def coefficients(self) -> DoubleArray:
        """(f,) score added per unit of each raw feature."""
        return self.weight / self.scale

    def score(self, x: FloatArray) -> FloatArray:
        """Score each candidate, comparable within a user: (m,) float32."""
        out = np.full(len(x), -(self.mean @ self.coefficients))
        product = np.empty(len(x))
        # Column by column, so that the rounding of a pair's score does not depend on the batch.
        for column, coefficient in zip(x.T, self.coefficients.tolist(), strict=True):
            out += np.multiply(column, coefficient, out=product)
        return out.astype(np.float32)

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """Compute the part of the score that each source's own features contribute: (m, s) float32."""
        parts = [
            x[:, columns] @ self.coefficients[columns]
            for columns in (self._source_columns(source) for source in self.sources)
        ]
        return np.stack(parts, axis=1).astype(np.float32)

    def _source_columns(self, source: str) -> list[int]:
        return [column for column, name in enumerate(self.feature_names) if name.startswith(f"{source}.")]

    def to_json(self) -> str:
        """Serialise the ranker; `from_json` restores the same numbers."""
        return json.dumps(
            {
                "format": FORMAT_VERSION,
                "sources": list(self.sources),
                "cases": self.n_users,
                "features": [
                    {"name": name, "mean": mean, "scale": scale, "weight": weight}
                    for name, mean, scale, weight in zip(
                        self.feature_names, self.mean.tolist(), self.scale.tolist(), self.weight.tolist(), strict=True
                    )
                ],
            },
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> LinearRanker:
        """Read the text that `to_json` wrote.

        Raises:
            ModelFolderError: the text is not a linear ranker, or its features are those of another version.
        """
        try:
            document = json.loads(text)
            sources, rows = tuple(document["sources"]), document["features"]
            numbers = np.array([[row["mean"], row["scale"], row["weight"]] for row in rows], np.float64).reshape(-1, 3)
            ranker = LinearRanker(
                sources,
                tuple(row["name"] for row in rows),
                numbers[:, 0],
                numbers[:, 1],
                numbers[:, 2],
                int(document["cases"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(f"linear ranker: cannot be read ({error}); run 'recsys train ranker'") from error
        if document.get("format") != FORMAT_VERSION or list(ranker.feature_names) != feature_names(sources):
            raise ModelFolderError("linear ranker: fitted by another version; run 'recsys train ranker'")
        if not np.isfinite(numbers).all() or (ranker.scale <= 0).any():
            raise ModelFolderError(
                "linear ranker: a number is not finite or a scale not above 0; run 'recsys train ranker'"
            )
        return ranker


def equal_weights(sources: Sequence[str]) -> LinearRanker:
    """Return the ranker without training data: `relative` and `place` of all sources have weight 1.

    Exceptions: `repurchase` has a larger weight; `popular`, `cluster` and `fresh` have a smaller one.
    """
    names = feature_names(sources)
    source_weight = {"repurchase": 2.0, "popular": 0.2, "cluster": 0.2, "fresh": 0.2}
    weight = [
        source_weight.get(name.split(".")[0], 1.0) if name.endswith((".relative", ".place")) else 0.0 for name in names
    ]
    f = len(names)
    return LinearRanker(tuple(sources), tuple(names), np.zeros(f), np.ones(f), np.array(weight), 0)


def fit_conditional_logit(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    *,
    sources: Sequence[str],
    ridge: float = 3.0,
    min_users: int = 50,
    max_users: int = 6000,
    max_negatives: int = 50,
) -> LinearRanker:
    """Fit the weights by conditional logit: a bought candidate against all candidates of the user (McFadden 1974).

    Deterministic: full batch, double precision, L-BFGS from zero weights.

    Args:
        x: (m, f) features in the order of `feature_names(sources)`.
        user: (m,) user of each row, ascending.
        bought: (m,) bool, bought afterwards.
        sources: names of the candidate sources, in order.
        ridge: penalty on the squared weights, in users.
        min_users: with fewer users who bought one of their candidates, weights stay equal and a warning is logged.
        max_users: users to fit on, evenly spaced among more: a model of this few weights needs no more.
        max_negatives: candidates per user that were not bought, sampled from more: with uniformly sampled
            alternatives, the logit is still consistent (McFadden 1978).

    Returns:
        The fitted ranker, or `equal_weights`.
    """
    from scipy.optimize import minimize

    has_purchase = np.isin(user, np.unique(user[bought]))
    x, user, bought = x[has_purchase], user[has_purchase], bought[has_purchase]
    _, user_index = np.unique(user, return_inverse=True)
    n_users = int(user_index.max(initial=-1)) + 1
    if n_users < min_users:
        log.warning(
            "ranker not fitted: only %d users bought one of their candidates in the window (at least %d are needed); "
            "using equal source weights",
            n_users,
            min_users,
        )
        return equal_weights(sources)
    row_mask = np.isin(user_index, np.linspace(0, n_users - 1, min(n_users, max_users)).astype(np.int64))
    row_mask &= sample_negatives(user_index, bought, max_negatives, np.random.default_rng(n_users))
    x, bought = x[row_mask], bought[row_mask]
    _, user_index = np.unique(user_index[row_mask], return_inverse=True)
    n_users = min(n_users, max_users)
    mean = x.mean(axis=0, dtype=np.float64)
    scale = x.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1.0
    z = ((x - mean) / scale).astype(np.float64)
    starts = np.searchsorted(user_index, np.arange(n_users))
    target = bought / np.add.reduceat(bought.astype(np.float64), starts)[user_index]

    def loss(weight: DoubleArray) -> tuple[float, DoubleArray]:
        score = z @ weight
        score -= np.maximum.reduceat(score, starts)[user_index]
        exp_score = np.exp(score)
        total = np.add.reduceat(exp_score, starts)
        value = float(np.log(total).sum() - target @ score + 0.5 * ridge * weight @ weight)
        return value, z.T @ (exp_score / total[user_index] - target) + ridge * weight

    result = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-8})
    return LinearRanker(tuple(sources), tuple(feature_names(sources)), mean, scale, result.x, n_users)


def sample_negatives(user: IntArray, bought: BoolArray, max_negatives: int, rng: np.random.Generator) -> BoolArray:
    """Select all bought rows and up to `max_negatives` random others of each user: (m,) bool mask."""
    order = np.lexsort((rng.random(len(user)), bought, user))
    position = np.arange(len(order)) - np.searchsorted(user[order], user[order])
    out = np.empty(len(order), np.bool_)
    out[order] = position < max_negatives
    return out | bought
