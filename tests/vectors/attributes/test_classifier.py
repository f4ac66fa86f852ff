"""Guessing a value: the pool listens to who is right, confidence means what it says, nothing judges itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from recsys.vectors.attributes.classifier import (
    AttributeFeatures,
    LogisticExperts,
    LogLinearPool,
    calibration_error,
    cross_validate,
)


def _one_hot(labels: np.ndarray, values: int) -> np.ndarray:
    return np.eye(values, dtype=bool)[labels]


def _scores(labels: np.ndarray, values: int, loud: float, g: np.random.Generator) -> np.ndarray:
    """An expert who adds `loud` to the true value of noise of the same size."""
    said = g.normal(size=(len(labels), values)) * 2
    said[np.arange(len(labels)), labels] += loud
    return (said - np.log(np.exp(said).sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("better", [0, 1])
def test_the_pool_listens_to_the_expert_who_is_right(better: int) -> None:
    g = np.random.default_rng(0)
    labels = g.integers(0, 5, 600)
    experts = [_scores(labels, 5, 6.0, g), _scores(labels, 5, 0.0, g)]
    pool = LogLinearPool.fit(
        np.stack(experts if better == 0 else experts[::-1]), _one_hot(labels, 5), multi_label=False
    )
    assert pool.weights[better] > 0.6 and pool.weights[1 - better] < 0.1


def test_confidence_is_how_often_a_guess_is_right() -> None:
    g = np.random.default_rng(1)
    labels = g.integers(0, 4, 4000)
    loud = np.stack([_scores(labels, 4, 2.0, g) * 3, _scores(labels, 4, 2.0, g) * 3])  # far too sure of itself
    truth = _one_hot(labels, 4)
    half = np.arange(4000) < 2000
    told = LogLinearPool((0.5, 0.5), 1.0, 0.0, multi_label=False)
    fitted = LogLinearPool.fit(loud[:, half], truth[half], multi_label=False)
    errors = []
    for pool in (told, fitted):
        chosen, raw = pool.predict(pool.predict_proba(loud[:, ~half]))
        errors.append(calibration_error(pool.confidence(raw), (chosen == truth[~half]).all(1)))
    assert errors[0] > 0.1 and errors[1] < errors[0] / 4


def test_few_values_move_a_pool_little() -> None:
    labels = np.array([0, 1, 1])
    pool = LogLinearPool.fit(np.zeros((2, 3, 2), np.float32), _one_hot(labels, 2), multi_label=False)
    assert pool.weights == pytest.approx((0.5, 0.5), abs=0.01)
    assert abs(pool.shift) < 1.0


def test_the_calibration_error_is_the_plain_sum() -> None:
    g = np.random.default_rng(2)
    confidence, right = np.append(g.random(300), [0.0, 1.0]), np.append(g.random(300) < 0.5, [True, False])
    expected = 0.0
    for at in range(10):
        inside = [i for i in range(302) if at / 10 <= confidence[i] < (at + 1) / 10 or (at == 9 and confidence[i] == 1)]
        if inside:
            gap = np.mean([confidence[i] for i in inside]) - np.mean([right[i] for i in inside])
            expected += len(inside) / 302 * abs(gap)
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_several_values_are_chosen_each_by_itself_and_one_at_least() -> None:
    pool = LogLinearPool((0.5, 0.5), 1.0, 0.0, multi_label=True)
    chances = np.array([[0.9, 0.6, 0.1], [0.2, 0.4, 0.3]], np.float32)
    chosen, raw = pool.predict(chances)
    assert chosen.tolist() == [[True, True, False], [False, True, False]]
    assert raw == pytest.approx([0.9 * 0.6 * 0.9, 0.8 * 0.4 * 0.7])


def _evidence(labels: np.ndarray, g: np.random.Generator) -> AttributeFeatures:
    dense = g.normal(size=(len(labels), 4)).astype(np.float32)
    dense[:, 0] += 4 * (labels % 2)
    words = np.zeros((len(labels), 3), np.float32)
    words[np.arange(len(labels)), labels % 3] = 1
    return AttributeFeatures(dense, csr_array(words))


def test_experts_never_met_a_value_say_so() -> None:
    g = np.random.default_rng(3)
    labels = np.arange(60) % 3
    evidence, truth = _evidence(labels, g), _one_hot(labels, 5)
    said = LogisticExperts(evidence, truth, np.arange(60), multi_label=False, g=g).scores(evidence, np.arange(10))
    assert said.shape == (2, 10, 5)
    assert (said[:, :, 3:] == -9).all()
    assert np.exp(said[:, :, :3]).sum(2) == pytest.approx(np.ones((2, 10)), abs=1e-3)
    alone = LogisticExperts(evidence, _one_hot(np.zeros(60, int), 2), np.arange(60), multi_label=False, g=g)
    assert (alone.scores(evidence, np.arange(4))[:, :, 0] == 0).all()


@pytest.mark.parametrize("most", [None, 15])
def test_a_rehearsal_holds_out_each_product_it_judges(most: int | None) -> None:
    g = np.random.default_rng(4)
    labels = np.arange(90) % 6
    truth, known = _one_hot(labels, 6), np.arange(80)
    judged = cross_validate(_evidence(labels, g), truth, known, folds=4, max_held_out=most, multi_label=False, seed=0)
    assert sorted(judged.rows.tolist()) == list(range(80)) if most is None else len(judged.rows) == 15
    assert judged.accuracy > 0.8 > 3 * judged.majority_accuracy
    again = cross_validate(
        _evidence(labels, np.random.default_rng(4)), truth, known, folds=4, max_held_out=most, multi_label=False, seed=0
    )
    assert np.array_equal(again.rows, judged.rows) and np.array_equal(again.probabilities, judged.probabilities)


def test_what_nothing_tells_is_not_guessed_better_than_chance() -> None:
    """A value drawn at random: whoever saw it, or judged himself by what he learned from, would do better."""
    g = np.random.default_rng(5)
    truth = _one_hot(g.integers(0, 2, 400), 2)
    evidence = AttributeFeatures(g.normal(size=(400, 60)).astype(np.float32), csr_array((400, 1), dtype=np.float32))
    judged = cross_validate(evidence, truth, np.arange(400), folds=5, max_held_out=None, multi_label=False, seed=0)
    assert judged.accuracy < 0.58
    assert judged.calibration_error < 0.15 and judged.confidence.mean() < 0.62
