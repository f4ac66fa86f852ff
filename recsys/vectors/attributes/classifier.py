"""Attribute classifier: two linear experts, on vectors and on words, in a calibrated pool.

In: `AttributeFeatures` of n products, the values of V each has. Out: the probability of every value, a prediction and
its confidence.
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

WordFeatures = csr_array
"""Word features, (n, w) float32, sparse."""

BINS: Final = 10
"""Bins of the calibration error."""
_MAX_FIT: Final = 30_000
"""Products an expert is fitted on, at most."""
_MAX_POOL_FIT: Final = 5_000
"""Products the pool weights are fitted on, at most."""
_MAX_LOG_ODDS: Final = 9.0
"""Limit of an expert's log-odds, also used for values it was not fitted on."""
_MAX_ITERATIONS: Final = 100
"""Iterations of a logistic regression, at most."""


@dataclass(frozen=True)
class AttributeFeatures:
    """Features of n products: `dense` (n, e) vectors and `words` (n, w), sparse."""

    dense: FloatArray
    words: WordFeatures

    def parts(self, rows: IntArray) -> tuple[Any, Any]:
        """Return both features of some products."""
        return self.dense[rows], self.words[rows]


_INVERSE_RIDGE: Final = (3.0, 10.0)
"""Inverse ridge penalty of the experts, for vectors and for words."""


class LogisticExperts:
    """A logistic regression on the vectors and another on the words, fitted on the same products.

    The first is right about what images show, the second about what texts say; which of the two a column needs is not
    known in advance. In a single regression on both, either drowns the other.
    """

    def __init__(
        self,
        features: AttributeFeatures,
        truth: BoolArray,
        rows: IntArray,
        *,
        multi_label: bool,
        g: np.random.Generator,
    ) -> None:
        """Fit the experts.

        Args:
            features: features of n products.
            truth: (n, V) bool, the values they have.
            rows: products to fit on.
            multi_label: whether a product may have several values.
            g: random generator of the sample where there are too many products.
        """
        self._several = multi_label
        fit_rows = rows[truth[rows].any(1)]
        if len(fit_rows) > _MAX_FIT:
            fit_rows = np.sort(g.choice(fit_rows, _MAX_FIT, replace=False))
        self._fitted_values = np.flatnonzero(truth[fit_rows].any(0))
        """Values that the experts were fitted on."""
        self._n_values = truth.shape[1]
        self._models: list[Any] = []
        if len(self._fitted_values) > 1:
            labels: Any = truth[fit_rows][:, self._fitted_values]
            labels = labels.astype(np.int64) if multi_label else labels.argmax(1)
            for inputs, inverse_ridge in zip(features.parts(fit_rows), _INVERSE_RIDGE, strict=True):
                self._models.append(_fit_expert(inputs, labels, inverse_ridge, several=multi_label))

    def scores(self, features: AttributeFeatures, rows: IntArray) -> FloatArray:
        """Return the scores of both experts for every value: (2, m, V).

        Scores are log-probabilities, or log-odds where a product may have several values.
        """
        out = np.full((2, len(rows), self._n_values), -_MAX_LOG_ODDS, np.float32)
        out[:, :, self._fitted_values] = 0.0
        for i, (model, inputs) in enumerate(zip(self._models, features.parts(rows), strict=False)):
            probabilities = model.predict_proba(inputs)
            log_scores = (
                logit(np.clip(probabilities, 1e-9, 1 - 1e-9))
                if self._several
                else np.log(np.maximum(probabilities, 1e-9))
            )
            out[i][:, self._fitted_values] = np.clip(log_scores, -_MAX_LOG_ODDS, _MAX_LOG_ODDS)
        return out


def _fit_expert(features: Any, labels: IntArray, inverse_ridge: float, *, several: bool) -> Any:
    """Fit one expert; a one-vs-rest classifier where a product may have several values."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model: Any = LogisticRegression(C=inverse_ridge, max_iter=_MAX_ITERATIONS, tol=1e-3)
    if several:
        model = OneVsRestClassifier(model)
    with warnings.catch_warnings():
        # the probabilities are calibrated on held-out values anyway
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Label", module="sklearn")  # a value that all products have
        warnings.filterwarnings("ignore", message="The number of unique classes", module="sklearn")
        return model.fit(features, labels)


@dataclass(frozen=True)
class LogLinearPool:
    """Weights of the experts and the calibration, fitted on products the experts were not fitted on.

    The weights are those of a log-linear pool with the least cross-entropy (Genest & Zidek 1986); with one expert that
    is temperature scaling (Guo et al. 2017). The confidence of a prediction is calibrated by a sigmoid (Platt 1999).

    Attributes:
        weights: (2,) of the experts.
        slope, shift: of the sigmoid.
        multi_label: whether a product may have several values.
    """

    weights: tuple[float, float]
    slope: float
    shift: float
    multi_label: bool

    @staticmethod
    def fit(scores: FloatArray, truth: BoolArray, *, multi_label: bool) -> LogLinearPool:
        """Fit the pool to expert scores (2, m, V) and true values (m, V).

        Both fits are regularised: the weights towards 0.5, the sigmoid towards the identity.
        """
        has_value = truth.any(1)
        rows = np.flatnonzero(has_value)[:_MAX_POOL_FIT]
        weights = (0.5, 0.5)
        if len(rows):
            # double precision: the gradient uses steps that single precision would round away
            row_scores, row_truth = scores[:, rows].astype(np.float64), truth[rows]

            def objective(w: DoubleArray) -> float:
                """Return the penalised cross-entropy of two expert weights."""
                penalty = float(np.square(w - 0.5).sum()) / len(rows)
                return _cross_entropy(row_scores, row_truth, w, several=multi_label) + penalty

            result = minimize(objective, np.array(weights), method="L-BFGS-B", bounds=[(0.0, 10.0)] * 2)
            weights = (float(result.x[0]), float(result.x[1]))
        uncalibrated = LogLinearPool(weights, 1.0, 0.0, multi_label)
        predicted, raw = uncalibrated.predict(uncalibrated.predict_proba(scores))
        is_right, log_odds = (predicted == truth).all(1), logit(np.clip(raw, 1e-4, 1 - 1e-4))

        def loss(sigmoid: DoubleArray) -> float:
            """Return the penalised log loss of a sigmoid (slope, shift)."""
            z = sigmoid[0] * log_odds + sigmoid[1]
            penalty = (sigmoid[0] - 1) ** 2 + sigmoid[1] ** 2
            return float(-np.where(is_right, log_expit(z), log_expit(-z)).sum() + penalty)

        sigmoid = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.05, 10.0), (-10.0, 10.0)]).x
        return LogLinearPool(weights, float(sigmoid[0]), float(sigmoid[1]), multi_label)

    def predict_proba(self, scores: FloatArray) -> FloatArray:
        """Return the probability of every value (m, V); they sum to 1 unless there may be several values."""
        return np.asarray(np.exp(_pool_scores(scores, self.weights, several=self.multi_label)))

    def predict(self, probabilities: FloatArray) -> tuple[BoolArray, DoubleArray]:
        """Return the most probable value, or all above 0.5, and the probability that exactly these hold.

        The prediction is (m, V) bool, the probability (m,).
        """
        out = probabilities >= 0.5 if self.multi_label else np.zeros(probabilities.shape, np.bool_)
        unpredicted = np.flatnonzero(~out.any(1))
        out[unpredicted, probabilities[unpredicted].argmax(1)] = True
        raw = np.where(out, probabilities, 1 - probabilities).prod(1) if self.multi_label else probabilities.max(1)
        return out, raw.astype(np.float64)

    def confidence(self, probability: DoubleArray) -> DoubleArray:
        """Return the calibrated share of right predictions at these probabilities: (m,)."""
        return np.asarray(expit(self.slope * logit(np.clip(probability, 1e-4, 1 - 1e-4)) + self.shift))


def _pool_scores(scores: Any, weights: Any, *, several: bool) -> Any:
    """Return pooled log-probabilities: (m, V), in the precision of `scores`."""
    weights = np.asarray(weights, scores.dtype)
    pooled = weights[0] * scores[0] + weights[1] * scores[1]
    return log_expit(pooled) if several else log_softmax(pooled, axis=1)


def _cross_entropy(scores: Any, truth: BoolArray, weights: Any, *, several: bool) -> float:
    """Return the mean cross-entropy of the true values."""
    if not several:
        return float(-_pool_scores(scores, weights, several=False)[truth].mean())
    pooled = weights[0] * scores[0] + weights[1] * scores[1]
    return float(-log_expit(np.where(truth, pooled, -pooled)).sum(1).mean())


@dataclass(frozen=True)
class CrossValidationResult:
    """Results on held-out known values; each product is predicted by models not fitted on its value.

    Attributes:
        rows: (m,) product rows.
        probabilities: (m, V) probabilities.
        predicted: (m, V) bool, the predictions.
        confidence: (m,) calibrated confidence.
        is_right: (m,) bool, whether the prediction equals the true values.
        majority_accuracy: accuracy of always predicting the most frequent value.
        pool: fitted on all of them, for products whose value is missing.
    """

    rows: IntArray
    probabilities: FloatArray
    predicted: BoolArray
    confidence: DoubleArray
    is_right: BoolArray
    majority_accuracy: float
    pool: LogLinearPool

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(self.is_right.mean())

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean |confidence - accuracy| over ten bins."""
        return calibration_error(self.confidence, self.is_right)


def cross_validate(
    features: AttributeFeatures,
    truth: BoolArray,
    known: IntArray,
    *,
    folds: int,
    max_held_out: int | None,
    multi_label: bool,
    seed: int,
) -> CrossValidationResult:
    """Hold known values out, predict them from the rest, and compare.

    Args:
        features: features of n products.
        truth: (n, V) bool, their values; a known product without any has one too rare to be predicted.
        known: rows whose value is known.
        folds: number of folds.
        max_held_out: evaluate the first fold only, with this number of products at most; None = all folds in turn.
        multi_label: whether a product may have several values.
        seed: of the folds.
    """
    g = np.random.default_rng((seed, 11))
    parts = np.array_split(g.permutation(known), folds)
    held_out = parts if max_held_out is None else [parts[0][:max_held_out]]
    scores, majority_hits = [], 0
    for fold in held_out:
        rest = np.setdiff1d(known, fold)
        scores.append(LogisticExperts(features, truth, rest, multi_label=multi_label, g=g).scores(features, fold))
        commonest = Counter(_row_keys(truth[rest])).most_common(1)[0][0]
        majority_hits += _row_keys(truth[fold]).count(commonest)
    rows = np.concatenate(held_out)
    all_scores, fold_truth = np.concatenate(scores, axis=1), truth[rows]
    probabilities, predicted = np.zeros(fold_truth.shape, np.float32), np.zeros(fold_truth.shape, np.bool_)
    confidence = np.zeros(len(rows))
    # the pool, too, is fitted on other products than those it is evaluated on
    halves = np.arange(len(rows)) % 2 == 0
    for evaluated in (halves, ~halves):
        pool = LogLinearPool.fit(all_scores[:, ~evaluated], fold_truth[~evaluated], multi_label=multi_label)
        probabilities[evaluated] = pool.predict_proba(all_scores[:, evaluated])
        predicted[evaluated], raw = pool.predict(probabilities[evaluated])
        confidence[evaluated] = pool.confidence(raw)
    is_right = (predicted == fold_truth).all(1)
    final_pool = LogLinearPool.fit(all_scores, fold_truth, multi_label=multi_label)
    return CrossValidationResult(
        rows, probabilities, predicted, confidence, is_right, majority_hits / len(rows), final_pool
    )


def _row_keys(truth: BoolArray) -> list[bytes]:
    """Return each row as a hashable key."""
    return [row.tobytes() for row in np.packbits(truth, axis=1)]


def calibration_error(confidence: DoubleArray, right: BoolArray) -> float:
    """Return the mean over bins of |confidence - accuracy|, weighted by bin size (Naeini et al. 2015)."""
    bin_index = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    size = np.bincount(bin_index, minlength=BINS)
    gap = np.abs(np.bincount(bin_index, confidence - right, minlength=BINS))
    return float(gap.sum() / max(1, size.sum()))
