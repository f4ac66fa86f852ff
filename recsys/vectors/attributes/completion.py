"""Predict missing categories, brands and attributes from the other data of a product.

In: a catalogue, an encoder. Out: one `ColumnResult` per column: predictions, their confidence, and the accuracy on
held-out known values. A product's own value is hidden from its vector and from its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.tokenize import tokenize
from recsys.encoder.modalities.attributes import SEPARATOR
from recsys.errors import NotFoundError, UsageError, suggestion
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray
from recsys.vectors.attributes.classifier import (
    AttributeFeatures,
    CrossValidationResult,
    LogisticExperts,
    WordFeatures,
    cross_validate,
)

MIN_KNOWN: Final = 20
"""Known values below which nothing is predicted."""
MAX_VALUES: Final = 500
"""Different values of a column that can be predicted: the most frequent."""
_MAX_WEIGHTS: Final = 4_000_000
"""Values times words of a regression, at most; bounds memory."""
_ALL_FOLDS_UP_TO: Final = 3_000
"""Known values up to which every fold is held out in turn.

Above, one fold is held out, with at most `_MAX_HELD_OUT` values.
"""
_FOLDS: Final = 5
"""Folds of the held-out values."""
_MAX_HELD_OUT: Final = 5_000
"""Held-out values of a large column, at most."""


class MaskableEncoder(Protocol):
    """Interface of an encoder that can hide columns and restrict modalities."""

    @property
    def columns(self) -> Sequence[str]:
        """Catalogue columns that determine a product's vector."""
        ...

    def encode(
        self, catalogue: Catalogue, rows: IntArray, *, modalities: Sequence[str] | None = None, hide: Sequence[str] = ()
    ) -> FloatArray:
        """Return vectors (m, d) of some products."""
        ...


@dataclass(frozen=True)
class ColumnResult:
    """Predictions of the missing values of one column.

    Attributes:
        attribute: its name, without `attributes.`.
        missing_count: number of products without a value.
        known_count: number of products with one.
        reason: reason nothing was predicted; empty otherwise.
        rows: (m,) the products without a value.
        values: (m,) predictions.
        confidence: (m,) calibrated confidence, 0 to 1.
        accuracy: share of held-out known values that are predicted; with several values all must be right.
        calibration_error: expected calibration error on the same.
        majority_accuracy: accuracy of always predicting the most frequent value.
        held_out_count: number of held-out values.
    """

    attribute: str
    missing_count: int
    known_count: int
    reason: str = ""
    rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    confidence: DoubleArray = field(default_factory=lambda: np.zeros(0), repr=False)
    accuracy: float | None = None
    calibration_error: float | None = None
    majority_accuracy: float | None = None
    held_out_count: int = 0


def predictable_columns(catalogue: Catalogue) -> list[str]:
    """Return predictable columns: brand, category and attributes that hold text and have any value."""
    frame = catalogue.frame
    return [
        name
        for name in frame.columns
        if (name in (schema.BRAND, schema.CATEGORY) or name.startswith(schema.ATTRIBUTE_PREFIX))
        and frame.schema[name] == pl.String
        and frame[name].drop_nulls().len()
    ]


def display_name(column: str) -> str:
    """Return a column's display name: `colour` for `attributes.colour`.

    The prefix stays where another column has the short name.
    """
    bare = column.removeprefix(schema.ATTRIBUTE_PREFIX)
    return column if bare in {column_spec.name for column_spec in schema.PRODUCTS} else bare


def resolve_columns(catalogue: Catalogue, names: Sequence[str]) -> list[str]:
    """Return columns by display name; all predictable ones where none is named.

    Raises:
        UsageError: a column holds numbers or nothing to predict.
        NotFoundError: the column is unknown; the message names the nearest.
    """
    predictable = predictable_columns(catalogue)
    out = []
    for name in names:
        column = next(
            (candidate for candidate in (name, schema.ATTRIBUTE_PREFIX + name) if candidate in predictable), None
        )
        if column is None:
            raise _column_error(catalogue, name, predictable)
        out.append(column)
    return list(dict.fromkeys(out)) if names else predictable


def _column_error(catalogue: Catalogue, name: str, predictable: Sequence[str]) -> UsageError:
    """Return the error for a name that is not a predictable column."""
    frame, display_names = catalogue.frame, [display_name(candidate) for candidate in predictable]
    available = (
        f"there are {', '.join(display_names[:20])}" if display_names else "no category, brand or attribute has a value"
    )
    column = next(
        (candidate for candidate in (name, schema.ATTRIBUTE_PREFIX + name) if candidate in frame.columns), None
    )
    if column is None:
        return NotFoundError(f"unknown attribute '{name}'{suggestion(name, display_names) or '; ' + available}")
    if frame[column].null_count() == len(catalogue):
        return UsageError(f"attribute '{name}': no product has a value to learn from; {available}")
    if frame.schema[column].is_numeric():
        return UsageError(f"attribute '{name}' holds numbers, and only words are completed; {available}")
    return UsageError(f"'{name}' is not an attribute; {available}")


def predict_missing(
    catalogue: Catalogue, model: MaskableEncoder, columns: Iterable[str], *, seed: int
) -> Iterable[ColumnResult]:
    """Predict the missing values of each column, one column after the other.

    Args:
        catalogue: n products.
        model: the encoder.
        columns: of `predictable_columns`.
        seed: of the held-out values.
    """
    image_features: FloatArray | None = None
    for column in columns:
        values = split_values(catalogue, column)
        known_rows = np.array([row for row, product_values in enumerate(values) if product_values], np.int64)
        missing_rows = np.array([row for row, product_values in enumerate(values) if not product_values], np.int64)
        counts = ColumnResult(display_name(column), len(missing_rows), len(known_rows))
        reason = refusal_reason(values) or ("" if len(missing_rows) else "nothing is missing")
        if reason:
            yield ColumnResult(counts.attribute, counts.missing_count, counts.known_count, reason)
            continue
        if image_features is None:
            image_features = image_vectors(catalogue, model)
        names, truth = indicator_matrix(values)
        features = build_features(catalogue, model, column, images=image_features, n_values=len(names))
        several = bool((truth.sum(1) > 1).any())
        all_folds = len(known_rows) <= _ALL_FOLDS_UP_TO
        validation = cross_validate(
            features,
            truth,
            known_rows,
            folds=_FOLDS,
            max_held_out=None if all_folds else _MAX_HELD_OUT,
            multi_label=several,
            seed=seed,
        )
        experts = LogisticExperts(features, truth, known_rows, multi_label=several, g=np.random.default_rng((seed, 12)))
        predicted, probability = validation.pool.predict(
            validation.pool.predict_proba(experts.scores(features, missing_rows))
        )
        yield _column_result(
            counts, missing_rows, join_values(names, predicted), validation.pool.confidence(probability), validation
        )


def _column_result(
    counts: ColumnResult,
    rows: IntArray,
    values: Sequence[str],
    confidence: DoubleArray,
    validation: CrossValidationResult,
) -> ColumnResult:
    """Return the result of a predicted column."""
    return ColumnResult(
        counts.attribute,
        counts.missing_count,
        counts.known_count,
        "",
        rows,
        tuple(values),
        confidence,
        validation.accuracy,
        validation.calibration_error,
        validation.majority_accuracy,
        len(validation.rows),
    )


def split_values(catalogue: Catalogue, column: str) -> list[tuple[str, ...]]:
    """Return the values of each product in a column, sorted and distinct; empty where it has none."""
    texts = catalogue.frame[column].cast(pl.String).to_list()
    return [tuple(sorted({part.strip() for part in text.split(SEPARATOR)} - {""})) if text else () for text in texts]


def refusal_reason(values: Sequence[tuple[str, ...]]) -> str:
    """Return why a column cannot be predicted; empty when it can."""
    product_values = [values_of_product for values_of_product in values if values_of_product]
    n_different = len({value for values_of_product in product_values for value in values_of_product})
    if len(product_values) < MIN_KNOWN:
        return f"only {len(product_values)} known values; at least {MIN_KNOWN} are needed"
    if n_different < 2:
        return "all known values are the same"
    if 2 * n_different > len(product_values):
        return "nearly every product has a value of its own"
    return ""


def indicator_matrix(values: Sequence[tuple[str, ...]]) -> tuple[list[str], BoolArray]:
    """Return the predictable values, sorted, and the products that have them: (n, V) bool."""
    count = Counter(value for product_values in values for value in product_values)
    names = sorted(sorted(count, key=lambda value: (-count[value], value))[:MAX_VALUES])
    columns = {value: i for i, value in enumerate(names)}
    truth = np.zeros((len(values), len(names)), np.bool_)
    for row, product_values in enumerate(values):
        # a value too rare to be predicted leaves the row empty, which no prediction equals
        if all(value in columns for value in product_values):
            truth[row, [columns[value] for value in product_values]] = True
    return names, truth


def join_values(names: Sequence[str], indicators: BoolArray) -> list[str]:
    """Return values as stored in the catalogue; multiple values are joined."""
    return [SEPARATOR.join(names[i] for i in np.flatnonzero(row).tolist()) for row in indicators]


def image_vectors(catalogue: Catalogue, model: MaskableEncoder) -> FloatArray:
    """Return vectors of the images alone: (n, d), zeros without an image.

    (n, 0) where no product has an image. In the fused vector they are blurred: next to a text an image has little
    weight, but it determines colour best.
    """
    with_image = np.flatnonzero(catalogue.images.present)
    if not len(with_image):
        return np.zeros((len(catalogue), 0), np.float32)
    vectors = model.encode(catalogue, with_image, modalities=("image",))
    out = np.zeros((len(catalogue), vectors.shape[1]), np.float32)
    out[with_image] = vectors
    return out


def build_features(
    catalogue: Catalogue, model: MaskableEncoder, column: str, *, images: FloatArray, n_values: int
) -> AttributeFeatures:
    """Return features of all products without their values in a column."""
    vectors = model.encode(catalogue, np.arange(len(catalogue)), hide=(column,))
    return AttributeFeatures(
        np.hstack([vectors, images]), tfidf_without(catalogue, column, max_words=_MAX_WEIGHTS // max(1, n_values))
    )


def tfidf_without(catalogue: Catalogue, column: str, *, max_words: int) -> WordFeatures:
    """Return TF-IDF features without one attribute: (n, w) float32 of unit length.

    The words are those of titles, descriptions, groups and all other attributes.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    frame = catalogue.frame
    text_columns: list[str] = [name for name in (schema.TITLE, schema.DESCRIPTION) if name in frame.columns]
    attributes = [
        name for name in (schema.GROUP_ID, *predictable_columns(catalogue)) if name in frame.columns and name != column
    ]
    documents = []
    for row in frame.select(text_columns + attributes).iter_rows():
        text_cells, attribute_cells = row[: len(text_columns)], row[len(text_columns) :]
        words = tokenize(" ".join(cell for cell in (*text_cells, *attribute_cells) if cell))
        attribute_tokens = [
            f"{name}={value}"
            for name, cell in zip(attributes, attribute_cells, strict=True)
            if cell
            for value in str(cell).split(SEPARATOR)
        ]
        documents.append(words + attribute_tokens)
    document_frequency = Counter(word for document in documents for word in set(document))
    vocabulary = sorted(
        (word for word, count in document_frequency.items() if count > 1),
        key=lambda word: (-document_frequency[word], word),
    )[:max_words]
    if not vocabulary:
        return csr_array(np.zeros((len(catalogue), 1), np.float32))
    vectorizer = TfidfVectorizer(
        analyzer=list, lowercase=False, vocabulary=sorted(vocabulary), sublinear_tf=True, dtype=np.float32
    )
    features: WordFeatures = csr_array(vectorizer.fit_transform(documents))
    return features
