"""Missing values of category, brand and attributes, guessed from what else is known of a product.

In: a catalogue, an encoder. Out: `ColumnResult` a column: what was guessed, how sure that is, how often it is right on known
values that were held out. A product's own value is hidden when its vector is made, from the encoder and from the words.
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
    Words,
    cross_validate,
)

FEWEST: Final = 20
"""Known values below which nothing is guessed."""
MOST_VALUES: Final = 500
"""Different values of a column that may be guessed: the commonest."""
_WEIGHTS: Final = 4_000_000
"""Values times words of a regression at most; what bounds memory."""
_SMALL: Final = 3_000
"""Known values up to which all are held out in turn, a fifth at a time; above, one fifth is, at most `_JUDGED`."""
_FOLDS: Final = 5
_JUDGED: Final = 5_000


class MaskableEncoder(Protocol):
    """What is asked of an encoder: which columns it looks at, and vectors that do not know some of them."""

    @property
    def columns(self) -> Sequence[str]:
        """Catalogue columns that decide a product's vector."""
        ...

    def encode(
        self, catalogue: Catalogue, rows: IntArray, *, modalities: Sequence[str] | None = None, hide: Sequence[str] = ()
    ) -> FloatArray:
        """Vectors (m, d) of some products."""
        ...


@dataclass(frozen=True)
class ColumnResult:
    """One column and what was done about its gaps.

    Attributes:
        attribute: its name, without `attributes.`.
        missing: products without a value.
        known: products with one.
        why: why nothing was guessed; empty when it was.
        rows: (m,) the products without a value.
        values: (m,) the guesses.
        confidence: (m,) how sure they are, 0 to 1.
        accuracy: share of held-out known values that are guessed; a product with several values counts when all are.
        error: expected calibration error on the same.
        majority: share that is right when everybody gets the commonest value.
        held: how many were held out.
    """

    attribute: str
    missing: int
    known: int
    why: str = ""
    rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    confidence: DoubleArray = field(default_factory=lambda: np.zeros(0), repr=False)
    accuracy: float | None = None
    error: float | None = None
    majority: float | None = None
    held: int = 0


def columns_of(catalogue: Catalogue) -> list[str]:
    """Columns that can be asked about: brand, category and attributes that are words and have any value."""
    frame = catalogue.frame
    return [
        name
        for name in frame.columns
        if (name in (schema.BRAND, schema.CATEGORY) or name.startswith(schema.ATTRIBUTE_PREFIX))
        and frame.schema[name] == pl.String
        and frame[name].drop_nulls().len()
    ]


def display_name(column: str) -> str:
    """A column's name for people: `colour` for `attributes.colour`, unless a column of its own has that name."""
    bare = column.removeprefix(schema.ATTRIBUTE_PREFIX)
    return column if bare in {one.name for one in schema.PRODUCTS} else bare


def resolve_columns(catalogue: Catalogue, names: Sequence[str]) -> list[str]:
    """Columns by the names people give them; all there are when none is named.

    Raises:
        UsageError: a column holds numbers or nothing that can be guessed.
        NotFoundError: there is no such column; the message names the nearest.
    """
    able = columns_of(catalogue)
    out = []
    for name in names:
        found = next((one for one in (name, schema.ATTRIBUTE_PREFIX + name) if one in able), None)
        if found is None:
            raise _refused(catalogue, name, able)
        out.append(found)
    return list(dict.fromkeys(out)) if names else able


def _refused(catalogue: Catalogue, name: str, able: Sequence[str]) -> UsageError:
    frame, known = catalogue.frame, [display_name(one) for one in able]
    there = f"there are {', '.join(known[:20])}" if known else "no category, brand or attribute has a value"
    column = next((one for one in (name, schema.ATTRIBUTE_PREFIX + name) if one in frame.columns), None)
    if column is None:
        return NotFoundError(f"unknown attribute '{name}'{suggestion(name, known) or '; ' + there}")
    if frame[column].null_count() == len(catalogue):
        return UsageError(f"attribute '{name}': no product has a value to learn from; {there}")
    if frame.schema[column].is_numeric():
        return UsageError(f"attribute '{name}' holds numbers, and only words are completed; {there}")
    return UsageError(f"'{name}' is not an attribute; {there}")


def predict_missing(
    catalogue: Catalogue, model: MaskableEncoder, columns: Iterable[str], *, seed: int
) -> Iterable[ColumnResult]:
    """Guess what each column lacks, one column after the other.

    Args:
        catalogue: n products.
        model: encodes them.
        columns: of `columns_of`.
        seed: of what is held out.
    """
    pictures: FloatArray | None = None
    for column in columns:
        values = values_of(catalogue, column)
        known = np.array([row for row, own in enumerate(values) if own], np.int64)
        missing = np.array([row for row, own in enumerate(values) if not own], np.int64)
        gaps = ColumnResult(display_name(column), len(missing), len(known))
        why = refusal_reason(values) or ("" if len(missing) else "nothing is missing")
        if why:
            yield ColumnResult(gaps.attribute, gaps.missing, gaps.known, why)
            continue
        if pictures is None:
            pictures = image_vectors(catalogue, model)
        names, truth = table_of(values)
        evidence = build_features(catalogue, model, column, pictures=pictures, values=len(names))
        several = bool((truth.sum(1) > 1).any())
        small = len(known) <= _SMALL
        judged = cross_validate(
            evidence, truth, known, folds=_FOLDS, most=None if small else _JUDGED, several=several, seed=seed
        )
        experts = LogisticExperts(evidence, truth, known, several=several, g=np.random.default_rng((seed, 12)))
        guess, raw = judged.pool.predict(judged.pool.predict_proba(experts.scores(evidence, missing)))
        yield _filled(gaps, missing, texts_of(names, guess), judged.pool.confidence(raw), judged)


def _filled(
    gaps: ColumnResult, rows: IntArray, values: Sequence[str], confidence: DoubleArray, judged: CrossValidationResult
) -> ColumnResult:
    return ColumnResult(
        gaps.attribute,
        gaps.missing,
        gaps.known,
        "",
        rows,
        tuple(values),
        confidence,
        judged.accuracy,
        judged.error,
        judged.majority,
        len(judged.rows),
    )


def values_of(catalogue: Catalogue, column: str) -> list[tuple[str, ...]]:
    """The values of each product in a column, sorted, each once; none where it is empty."""
    texts = catalogue.frame[column].cast(pl.String).to_list()
    return [tuple(sorted({part.strip() for part in text.split(SEPARATOR)} - {""})) if text else () for text in texts]


def refusal_reason(values: Sequence[tuple[str, ...]]) -> str:
    """Why a column cannot be guessed, empty when it can."""
    known = [own for own in values if own]
    different = len({value for own in known for value in own})
    if len(known) < FEWEST:
        return f"only {len(known)} known values; at least {FEWEST} are needed"
    if different < 2:
        return "all known values are the same"
    if 2 * different > len(known):
        return "nearly every product has a value of its own"
    return ""


def table_of(values: Sequence[tuple[str, ...]]) -> tuple[list[str], BoolArray]:
    """The values that can be guessed, sorted, and which product has which: (n, V) bool."""
    count = Counter(value for own in values for value in own)
    names = sorted(sorted(count, key=lambda value: (-count[value], value))[:MOST_VALUES])
    place = {value: at for at, value in enumerate(names)}
    truth = np.zeros((len(values), len(names)), np.bool_)
    for row, own in enumerate(values):
        # a product with a value too rare to be guessed has a truth that no guess meets
        if all(value in place for value in own):
            truth[row, [place[value] for value in own]] = True
    return names, truth


def texts_of(names: Sequence[str], chosen: BoolArray) -> list[str]:
    """Values as they stand in a catalogue, several joined."""
    return [SEPARATOR.join(names[at] for at in np.flatnonzero(row).tolist()) for row in chosen]


def image_vectors(catalogue: Catalogue, model: MaskableEncoder) -> FloatArray:
    """What the pictures alone say: (n, d), zeros where there is none, (n, 0) where there is none at all.

    The fused vector blurs it: beside a text a picture has little say, but of colour it knows most.
    """
    pictured = np.flatnonzero(catalogue.images.present)
    if not len(pictured):
        return np.zeros((len(catalogue), 0), np.float32)
    some = model.encode(catalogue, pictured, modalities=("image",))
    out = np.zeros((len(catalogue), some.shape[1]), np.float32)
    out[pictured] = some
    return out


def build_features(
    catalogue: Catalogue, model: MaskableEncoder, column: str, *, pictures: FloatArray, values: int
) -> AttributeFeatures:
    """All that is known of the products but their values in a column."""
    vectors = model.encode(catalogue, np.arange(len(catalogue)), hide=(column,))
    return AttributeFeatures(
        np.hstack([vectors, pictures]), tfidf_without(catalogue, column, most=_WEIGHTS // max(1, values))
    )


def tfidf_without(catalogue: Catalogue, column: str, *, most: int) -> Words:
    """TF-IDF of titles, descriptions, groups and all attributes but one: (n, w) float32 of unit length."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    frame = catalogue.frame
    text: list[str] = [name for name in (schema.TITLE, schema.DESCRIPTION) if name in frame.columns]
    facts = [name for name in (schema.GROUP_ID, *columns_of(catalogue)) if name in frame.columns and name != column]
    documents = []
    for row in frame.select(text + facts).iter_rows():
        said, own = row[: len(text)], row[len(text) :]
        words = tokenize(" ".join(part for part in (*said, *own) if part))
        named = [
            f"{name}={part}"
            for name, cell in zip(facts, own, strict=True)
            if cell
            for part in str(cell).split(SEPARATOR)
        ]
        documents.append(words + named)
    counted = Counter(word for document in documents for word in set(document))
    kept = sorted((word for word, times in counted.items() if times > 1), key=lambda word: (-counted[word], word))[
        :most
    ]
    if not kept:
        return csr_array(np.zeros((len(catalogue), 1), np.float32))
    reader = TfidfVectorizer(
        analyzer=list, lowercase=False, vocabulary=sorted(kept), sublinear_tf=True, dtype=np.float32
    )
    found: Words = csr_array(reader.fit_transform(documents))
    return found
