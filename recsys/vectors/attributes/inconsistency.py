"""Find products whose text, image and attributes disagree, such as wrong images or swapped titles.

In: a catalogue, an encoder. Out: `Inconsistency` records, the most certain first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.encoder.modalities.attributes import SEPARATOR
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.attributes import completion
from recsys.vectors.attributes.classifier import cross_validate
from recsys.vectors.attributes.completion import MaskableEncoder

_FOLDS: Final = 3
"""Folds of the cross-validation."""
_IMPROBABLE: Final = 0.1
"""Probability below which a product's own value counts as improbable."""
_MAX_DEVIATIONS: Final = 3.0
"""Robust standard deviations below the median from which two views of a product are dissimilar."""
_BLOCK: Final = 1024
"""Products compared at a time."""
_TEXT_COLUMNS: Final = (schema.TITLE, schema.DESCRIPTION)
VIEWS: Final = {"picture": (("image",), ("text", "attributes")), "text": (("text",), ("image", "attributes"))}
"""Modalities compared with each other, by what is checked."""


@dataclass(frozen=True)
class Inconsistency:
    """A value or view of a product that does not fit the rest of it.

    Attributes:
        row: the product.
        check: "picture", "text", or the name of an attribute.
        confidence: 0 to 1. For an attribute the share of right predictions at this confidence, for an image or a text
            the probability that it is another product's, with even prior odds.
        current: the current value.
        expected: the value that fits the rest of the product.
    """

    row: int
    check: str
    confidence: float
    current: str
    expected: str


def find_inconsistencies(catalogue: Catalogue, model: MaskableEncoder, *, seed: int) -> Iterable[list[Inconsistency]]:
    """Yield one list of inconsistencies per check: first `VIEWS`, then each attribute; see `count_checks`."""
    for what in VIEWS:
        yield _dissimilar_views(catalogue, model, what, seed=seed)
    columns = completion.predictable_columns(catalogue)
    image_features = completion.image_vectors(catalogue, model) if columns else None
    for column in columns:
        assert image_features is not None
        yield _improbable_values(catalogue, model, column, image_features=image_features, seed=seed)


def count_checks(catalogue: Catalogue) -> int:
    """Return the number of lists `find_inconsistencies` yields."""
    return len(VIEWS) + len(completion.predictable_columns(catalogue))


def _improbable_values(
    catalogue: Catalogue, model: MaskableEncoder, column: str, *, image_features: FloatArray, seed: int
) -> list[Inconsistency]:
    """Return products whose value is improbable and another likely, as predicted from other products."""
    values = completion.split_values(catalogue, column)
    if completion.refusal_reason(values):
        return []
    known_rows = np.array([row for row, has_value in enumerate(values) if has_value], np.int64)
    value_names, truth = completion.indicator_matrix(values)
    features = completion.build_features(catalogue, model, column, images=image_features, n_values=len(value_names))
    several = bool((truth.sum(1) > 1).any())
    validation = cross_validate(
        features, truth, known_rows, folds=_FOLDS, max_held_out=None, multi_label=several, seed=seed
    )
    has_value = truth[validation.rows]
    # the least likely statement of the value: that one of its parts holds, or that an absent one does not
    absent = 1 - validation.probabilities if several else np.float32(1)
    own_probability = np.where(has_value, validation.probabilities, absent).min(1)
    # a value too rare to be predicted is no evidence against itself
    improbable = np.flatnonzero(
        ~validation.is_right & (own_probability < _IMPROBABLE) & (validation.confidence >= 0.5) & has_value.any(1)
    )
    improbable = np.array(
        [i for i in improbable if not _text_names_value(catalogue, validation.rows[i], values)], np.int64
    )
    expected = completion.join_values(value_names, validation.predicted[improbable])
    return [
        Inconsistency(
            int(validation.rows[i]),
            completion.display_name(column),
            float(validation.confidence[i]),
            SEPARATOR.join(values[validation.rows[i]]),
            text,
        )
        for i, text in zip(improbable, expected, strict=True)
    ]


def _text_names_value(catalogue: Catalogue, row: int, values: Sequence[tuple[str, ...]]) -> bool:
    """Return whether a product's own text names its value: then they agree, however rare the value is."""
    cells = [catalogue.frame[name][int(row)] for name in _TEXT_COLUMNS if name in catalogue.frame.columns]
    text_words = set(tokenize(" ".join(cell for cell in cells if cell)))
    return set(tokenize(" ".join(values[row]))) <= text_words


def _dissimilar_views(catalogue: Catalogue, model: MaskableEncoder, what: str, *, seed: int) -> list[Inconsistency]:
    """Return products whose two views are less similar than usual.

    The distance is the robust z-score of the cosine (median and median absolute deviation; Iglewicz & Hoaglin 1993).
    """
    from sklearn.linear_model import LogisticRegression

    rows = _comparable_products(catalogue, model, what)
    if len(rows) < completion.MIN_KNOWN:
        return []
    view, other_view = (model.encode(catalogue, rows, modalities=side) for side in VIEWS[what])
    cosine = np.einsum("nd,nd->n", view, other_view).astype(np.float64)
    median = np.median(cosine)
    deviation = 1.4826 * float(np.median(np.abs(cosine - median)))
    if deviation <= 0:
        return []
    shift = np.random.default_rng((seed, 13)).integers(1, len(rows), len(rows))
    mismatched_cosine = np.einsum("nd,nd->n", view, other_view[(np.arange(len(rows)) + shift) % len(rows)])
    z_scores = (np.concatenate([cosine, mismatched_cosine])[:, None] - median) / deviation
    classifier = LogisticRegression().fit(z_scores, np.repeat([0, 1], len(rows)))
    probability = classifier.predict_proba(z_scores[: len(rows)])[:, 1]
    dissimilar = np.flatnonzero((z_scores[: len(rows), 0] < -_MAX_DEVIATIONS) & (probability >= 0.5))
    best_match = rows[_best_matches(view, other_view, dissimilar)]
    titles, expected_titles = catalogue.titles(rows[dissimilar]), catalogue.titles(best_match)
    return [
        Inconsistency(
            int(rows[row]), what, float(probability[row]), title, f"as of {catalogue.ids.texts[match]}: {other_title}"
        )
        for row, title, match, other_title in zip(dissimilar, titles, best_match, expected_titles, strict=True)
    ]


def _comparable_products(catalogue: Catalogue, model: MaskableEncoder, what: str) -> IntArray:
    """Return products that have data on both sides of a check."""
    has_text = _has_value(catalogue, [name for name in _TEXT_COLUMNS if name in model.columns])
    has_attributes = _has_value(
        catalogue, [name for name in completion.predictable_columns(catalogue) if name in model.columns]
    )
    has_image = catalogue.images.present
    return np.flatnonzero(
        has_image & (has_text | has_attributes) if what == "picture" else has_text & (has_image | has_attributes)
    )


def _has_value(catalogue: Catalogue, columns: Sequence[str]) -> BoolArray:
    """Return which products have a value in any of some columns: (n,) bool."""
    out = np.zeros(len(catalogue), np.bool_)
    for name in columns:
        if name in catalogue.frame.columns:
            out |= (catalogue.frame[name].fill_null("") != "").to_numpy()
    return out


def _best_matches(view: FloatArray, other_view: FloatArray, rows: IntArray) -> IntArray:
    """Return for some products the product whose other view fits theirs best, themselves excluded."""
    out = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), _BLOCK):
        chunk = rows[start : start + _BLOCK]
        scores = view[chunk] @ other_view.T
        scores[np.arange(len(chunk)), chunk] = -np.inf
        out[start : start + _BLOCK] = scores.argmax(1)
    return out


def top_inconsistencies(findings: Iterable[Inconsistency], k: int | None = None) -> list[Inconsistency]:
    """Return the k most certain findings; ties by product, then by name."""
    ordered: Sequence[Inconsistency] = sorted(
        findings, key=lambda finding: (-round(finding.confidence, 6), finding.row, finding.check)
    )
    return list(ordered if k is None else ordered[:k])
