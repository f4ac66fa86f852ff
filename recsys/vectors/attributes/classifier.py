"""Guesses a value from vectors and words: two linear experts, pooled by how right each is on values held out.

In: `AttributeFeatures` of n products, which of V values each has. Out: a chance for every value, a guess and how sure it is.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, log_softmax, logit

from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

Words = csr_array
"""Rows of words, (n, w) float32."""

BINS: Final = 10
_MOST: Final = 30_000
"""Products an expert is fitted on at most."""
_POOLED: Final = 5_000
"""Products the pool's weights are fitted on at most."""
_FLOOR: Final = 9.0
"""Log-odds no expert goes beyond; a value it has not met is as unlikely as that."""
_PASSES: Final = 100


@dataclass(frozen=True)
class AttributeFeatures:
    """What is known of n products: `dense` (n, e) vectors and `words` (n, w), sparse."""

    dense: FloatArray
    words: Words

    def parts(self, rows: IntArray) -> tuple[Any, Any]:
        """Both for some products."""
        return self.dense[rows], self.words[rows]


_STRENGTH: Final = (3.0, 10.0)
"""Inverse of the ridge of the experts, for vectors and for words."""


class LogisticExperts:
    """A logistic regression on the vectors and another on the words, fitted on the same products.

    One is right about what pictures show, the other about what words say; which of the two is asked about, nobody
    knows beforehand. A single regression on both together lets either drown the other.
    """

    def __init__(
        self, evidence: AttributeFeatures, truth: BoolArray, rows: IntArray, *, several: bool, g: np.random.Generator
    ) -> None:
        self._several = several
        fit = rows[truth[rows].any(1)]
        if len(fit) > _MOST:
            fit = np.sort(g.choice(fit, _MOST, replace=False))
        self._there = np.flatnonzero(truth[fit].any(0))
        """Values that the experts have met."""
        self._values = truth.shape[1]
        self._models: list[Any] = []
        if len(self._there) > 1:
            labels: Any = truth[fit][:, self._there]
            labels = labels.astype(np.int64) if several else labels.argmax(1)
            for part, strength in zip(evidence.parts(fit), _STRENGTH, strict=True):
                self._models.append(_fitted(part, labels, strength, several=several))

    def scores(self, evidence: AttributeFeatures, rows: IntArray) -> FloatArray:
        """What each expert says of each value: (2, m, V) log-chances, or log-odds where there may be several."""
        out = np.full((2, len(rows), self._values), -_FLOOR, np.float32)
        out[:, :, self._there] = 0.0
        for at, (model, part) in enumerate(zip(self._models, evidence.parts(rows), strict=False)):
            found = model.predict_proba(part)
            said = logit(np.clip(found, 1e-9, 1 - 1e-9)) if self._several else np.log(np.maximum(found, 1e-9))
            out[at][:, self._there] = np.clip(said, -_FLOOR, _FLOOR)
        return out


def _fitted(part: Any, labels: IntArray, strength: float, *, several: bool) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model: Any = LogisticRegression(C=strength, max_iter=_PASSES, tol=1e-3)
    if several:
        model = OneVsRestClassifier(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the chances are calibrated on held-out values anyway
        warnings.filterwarnings("ignore", message="Label", module="sklearn")  # a value that all products have
        warnings.filterwarnings("ignore", message="The number of unique classes", module="sklearn")
        return model.fit(part, labels)


@dataclass(frozen=True)
class LogLinearPool:
    """How the experts' words are weighed, and how sure the outcome is: fitted on products the experts did not see.

    The weights are those of a log-linear pool with the least cross-entropy (Genest & Zidek 1986); with one expert that
    is temperature scaling (Guo et al. 2017). What a guess is worth is then read off a sigmoid (Platt 1999).

    Attributes:
        weights: (2,) of the experts.
        slope, shift: of the sigmoid.
        several: may a product have several values.
    """

    weights: tuple[float, float]
    slope: float
    shift: float
    several: bool

    @staticmethod
    def fit(scores: FloatArray, truth: BoolArray, *, several: bool) -> LogLinearPool:
        """From what the experts say (2, m, V) and what is true (m, V); both fits are drawn to "as said" a little."""
        told = truth.any(1)
        some = np.flatnonzero(told)[:_POOLED]
        weights = (0.5, 0.5)
        if len(some):
            # in double precision: the slope is measured over steps that single precision would round away
            said, right = scores[:, some].astype(np.float64), truth[some]

            def surprise(w: DoubleArray) -> float:
                return _cross_entropy(said, right, w, several=several) + float(np.square(w - 0.5).sum()) / len(some)

            found = minimize(surprise, np.array(weights), method="L-BFGS-B", bounds=[(0.0, 10.0)] * 2)
            weights = (float(found.x[0]), float(found.x[1]))
        plain = LogLinearPool(weights, 1.0, 0.0, several)
        chosen, raw = plain.predict(plain.predict_proba(scores))
        right, at = (chosen == truth).all(1), logit(np.clip(raw, 1e-4, 1 - 1e-4))

        def loss(line: DoubleArray) -> float:
            z = line[0] * at + line[1]
            pull = (line[0] - 1) ** 2 + line[1] ** 2
            return float(-np.where(right, log_expit(z), log_expit(-z)).sum() + pull)

        line = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.05, 10.0), (-10.0, 10.0)]).x
        return LogLinearPool(weights, float(line[0]), float(line[1]), several)

    def predict_proba(self, scores: FloatArray) -> FloatArray:
        """Chance of every value: (m, V); of each product they sum to 1 unless it may have several."""
        return np.asarray(np.exp(_pooled(scores, self.weights, several=self.several)))

    def predict(self, chances: FloatArray) -> tuple[BoolArray, DoubleArray]:
        """The likeliest value, or all likelier than not, (m, V) bool, and the chance that just these hold (m,)."""
        out = chances >= 0.5 if self.several else np.zeros(chances.shape, np.bool_)
        none = np.flatnonzero(~out.any(1))
        out[none, chances[none].argmax(1)] = True
        raw = np.where(out, chances, 1 - chances).prod(1) if self.several else chances.max(1)
        return out, raw.astype(np.float64)

    def confidence(self, raw: DoubleArray) -> DoubleArray:
        """How often a guess with such a chance is right: (m,)."""
        return np.asarray(expit(self.slope * logit(np.clip(raw, 1e-4, 1 - 1e-4)) + self.shift))


def _pooled(scores: Any, weights: Any, *, several: bool) -> Any:
    """Log-chances by both experts: (m, V), in the precision of `scores`."""
    weights = np.asarray(weights, scores.dtype)
    said = weights[0] * scores[0] + weights[1] * scores[1]
    return log_expit(said) if several else log_softmax(said, axis=1)


def _cross_entropy(scores: Any, truth: BoolArray, weights: Any, *, several: bool) -> float:
    """Mean cross-entropy of what is true."""
    if not several:
        return float(-_pooled(scores, weights, several=False)[truth].mean())
    said = weights[0] * scores[0] + weights[1] * scores[1]
    return float(-log_expit(np.where(truth, said, -said)).sum(1).mean())


@dataclass(frozen=True)
class CrossValidationResult:
    """What comes out on known values that were held out; each product is judged by what did not see its value.

    Attributes:
        rows: (m,) product rows.
        chances: (m, V).
        chosen: (m, V) bool, the guess.
        confidence: (m,) how sure it is.
        right: (m,) bool, is it all of the truth and nothing else.
        majority: share that is right when everybody gets the commonest value.
        pool: fitted on all of them, for products whose value nobody knows.
    """

    rows: IntArray
    chances: FloatArray
    chosen: BoolArray
    confidence: DoubleArray
    right: BoolArray
    majority: float
    pool: LogLinearPool

    @property
    def accuracy(self) -> float:
        """Share of the guesses that are right."""
        return float(self.right.mean())

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015) over ten bins: how far confidence is from being right."""
        return calibration_error(self.confidence, self.right)


def cross_validate(
    evidence: AttributeFeatures,
    truth: BoolArray,
    known: IntArray,
    *,
    folds: int,
    most: int | None,
    several: bool,
    seed: int,
) -> CrossValidationResult:
    """Hold known values out, guess them from the rest, compare.

    Args:
        evidence: of n products.
        truth: (n, V) which values they have; a known product without any has one that is too rare to be guessed.
        known: rows whose value is known.
        folds: in how many parts they are cut.
        most: judge by the first part alone, by so many products at most; None = by all parts in turn.
        several: may a product have several values.
        seed: of the parts.
    """
    g = np.random.default_rng((seed, 11))
    parts = np.array_split(g.permutation(known), folds)
    held = parts if most is None else [parts[0][:most]]
    scores, common = [], 0
    for part in held:
        rest = np.setdiff1d(known, part)
        scores.append(LogisticExperts(evidence, truth, rest, several=several, g=g).scores(evidence, part))
        commonest = Counter(_names(truth[rest])).most_common(1)[0][0]
        common += _names(truth[part]).count(commonest)
    rows = np.concatenate(held)
    every, right = np.concatenate(scores, axis=1), truth[rows]
    chances, chosen = np.zeros(right.shape, np.float32), np.zeros(right.shape, np.bool_)
    confidence = np.zeros(len(rows))
    # the pool too is fitted on other products than it is judged by
    halves = np.arange(len(rows)) % 2 == 0
    for ask in (halves, ~halves):
        pool = LogLinearPool.fit(every[:, ~ask], right[~ask], several=several)
        chances[ask] = pool.predict_proba(every[:, ask])
        chosen[ask], raw = pool.predict(chances[ask])
        confidence[ask] = pool.confidence(raw)
    hit = (chosen == right).all(1)
    whole = LogLinearPool.fit(every, right, several=several)
    return CrossValidationResult(rows, chances, chosen, confidence, hit, common / len(rows), whole)


def _names(truth: BoolArray) -> list[bytes]:
    """Each row as something that can be counted."""
    return [row.tobytes() for row in np.packbits(truth, axis=1)]


def calibration_error(confidence: DoubleArray, right: BoolArray) -> float:
    """Mean over bins of |confidence - share right|, weighted by their size (Naeini et al. 2015)."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    size = np.bincount(place, minlength=BINS)
    gap = np.abs(np.bincount(place, confidence - right, minlength=BINS))
    return float(gap.sum() / max(1, size.sum()))
