"""Products whose text, picture and attributes disagree: wrong pictures, wrong categories, mixed-up titles.

In: a catalogue, an encoder. Out: `Inconsistency`s, the surest first.
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
from recsys.vectors.attributes import completion as complete
from recsys.vectors.attributes.classifier import cross_validate
from recsys.vectors.attributes.completion import MaskableEncoder

_FOLDS: Final = 3
_DOUBT: Final = 0.1
"""Chance below which a product's own value counts as improbable."""
_FAR: Final = 3.0
"""Robust standard deviations from the middle beyond which two views of a product are unlike."""
_BLOCK: Final = 1024
_TEXTS: Final = (schema.TITLE, schema.DESCRIPTION)
VIEWS: Final = {"picture": (("image",), ("text", "attributes")), "text": (("text",), ("image", "attributes"))}
"""What is compared with what: modalities on one side and on the other."""


@dataclass(frozen=True)
class Inconsistency:
    """One thing about one product that does not fit the rest of it.

    Attributes:
        row: the product.
        what: "picture", "text", or the name of an attribute.
        sure: 0 to 1. For an attribute how often so sure a guess is right, for a picture or text the chance that it is
            another product's, where half were.
        held: what the product has.
        expected: what the rest of it speaks for.
    """

    row: int
    what: str
    sure: float
    held: str
    expected: str


def find_inconsistencies(catalogue: Catalogue, model: MaskableEncoder, *, seed: int) -> Iterable[list[Inconsistency]]:
    """Findings, one list for each thing compared: first `VIEWS`, then each attribute; see `count_checks`."""
    for what in VIEWS:
        yield _dissimilar_views(catalogue, model, what, seed=seed)
    columns = complete.columns_of(catalogue)
    pictures = complete.image_vectors(catalogue, model) if columns else None
    for column in columns:
        assert pictures is not None
        yield _improbable_values(catalogue, model, column, pictures=pictures, seed=seed)


def count_checks(catalogue: Catalogue) -> int:
    """How many lists `find_inconsistencies` yields."""
    return len(VIEWS) + len(complete.columns_of(catalogue))


def _improbable_values(
    catalogue: Catalogue, model: MaskableEncoder, column: str, *, pictures: FloatArray, seed: int
) -> list[Inconsistency]:
    """Products whose value is improbable and another likely, guessed by what was learned from other products."""
    values = complete.values_of(catalogue, column)
    if complete.refusal_reason(values):
        return []
    known = np.array([row for row, own in enumerate(values) if own], np.int64)
    names, truth = complete.table_of(values)
    evidence = complete.build_features(catalogue, model, column, pictures=pictures, values=len(names))
    several = bool((truth.sum(1) > 1).any())
    judged = cross_validate(evidence, truth, known, folds=_FOLDS, most=None, several=several, seed=seed)
    own = truth[judged.rows]
    # the least likely thing the value says: that one of its parts holds, or that a part it has not does not
    doubt = np.where(own, judged.chances, 1 - judged.chances if several else np.float32(1)).min(1)
    # a value too rare to be guessed says nothing against itself
    odd_ones = np.flatnonzero(~judged.right & (doubt < _DOUBT) & (judged.confidence >= 0.5) & own.any(1))
    odd_ones = np.array([at for at in odd_ones if not _said(catalogue, judged.rows[at], values)], np.int64)
    expected = complete.texts_of(names, judged.chosen[odd_ones])
    return [
        Inconsistency(
            int(judged.rows[at]),
            complete.display_name(column),
            float(judged.confidence[at]),
            SEPARATOR.join(values[judged.rows[at]]),
            text,
        )
        for at, text in zip(odd_ones, expected, strict=True)
    ]


def _said(catalogue: Catalogue, row: int, values: Sequence[tuple[str, ...]]) -> bool:
    """Does a product's own text name its value: then they agree, however rare that is."""
    cells = [catalogue.frame[name][int(row)] for name in _TEXTS if name in catalogue.frame.columns]
    own = set(tokenize(" ".join(cell for cell in cells if cell)))
    return set(tokenize(" ".join(values[row]))) <= own


def _dissimilar_views(catalogue: Catalogue, model: MaskableEncoder, what: str, *, seed: int) -> list[Inconsistency]:
    """Products of which one view is unlike the other, compared with how like they are in all products.

    The distance is the robust z-score of the cosine (median and median absolute deviation; Iglewicz & Hoaglin 1993).
    """
    from sklearn.linear_model import LogisticRegression

    rows = _both(catalogue, model, what)
    if len(rows) < complete.FEWEST:
        return []
    one, other = (model.encode(catalogue, rows, modalities=side) for side in VIEWS[what])
    like = np.einsum("nd,nd->n", one, other).astype(np.float64)
    middle = np.median(like)
    spread = 1.4826 * float(np.median(np.abs(like - middle)))
    if spread <= 0:
        return []
    shift = np.random.default_rng((seed, 13)).integers(1, len(rows), len(rows))
    strange = np.einsum("nd,nd->n", one, other[(np.arange(len(rows)) + shift) % len(rows)])
    both = (np.concatenate([like, strange])[:, None] - middle) / spread
    told = LogisticRegression().fit(both, np.repeat([0, 1], len(rows)))
    sure = told.predict_proba(both[: len(rows)])[:, 1]
    far = np.flatnonzero((both[: len(rows), 0] < -_FAR) & (sure >= 0.5))
    fitting = rows[_nearest(one, other, far)]
    held, expected = catalogue.titles(rows[far]), catalogue.titles(fitting)
    return [
        Inconsistency(int(rows[at]), what, float(sure[at]), mine, f"as of {catalogue.ids.texts[fits]}: {title}")
        for at, mine, fits, title in zip(far, held, fitting, expected, strict=True)
    ]


def _both(catalogue: Catalogue, model: MaskableEncoder, what: str) -> IntArray:
    """Products that have something on either side."""
    worded = _any(catalogue, [name for name in _TEXTS if name in model.columns])
    valued = _any(catalogue, [name for name in complete.columns_of(catalogue) if name in model.columns])
    pictured = catalogue.images.present
    return np.flatnonzero(pictured & (worded | valued) if what == "picture" else worded & (pictured | valued))


def _any(catalogue: Catalogue, columns: Sequence[str]) -> BoolArray:
    """Which products have anything in some columns: (n,) bool."""
    out = np.zeros(len(catalogue), np.bool_)
    for name in columns:
        if name in catalogue.frame.columns:
            out |= (catalogue.frame[name].fill_null("") != "").to_numpy()
    return out


def _nearest(one: FloatArray, other: FloatArray, asked: IntArray) -> IntArray:
    """For some products the one whose other view fits theirs best, itself left out."""
    out = np.zeros(len(asked), np.int64)
    for at in range(0, len(asked), _BLOCK):
        some = asked[at : at + _BLOCK]
        scores = one[some] @ other.T
        scores[np.arange(len(some)), some] = -np.inf
        out[at : at + _BLOCK] = scores.argmax(1)
    return out


def top_inconsistencies(findings: Iterable[Inconsistency], k: int | None = None) -> list[Inconsistency]:
    """The surest k, of equals the product and the thing that come first."""
    ordered: Sequence[Inconsistency] = sorted(findings, key=lambda one: (-round(one.sure, 6), one.row, one.what))
    return list(ordered if k is None else ordered[:k])
