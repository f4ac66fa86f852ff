"""Filling gaps: right where the rest tells, modest where nothing does; a column never sees itself."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import NotFoundError, UsageError
from recsys.vectors.attributes import completion as complete
from recsys.vectors.attributes.completion import ColumnResult
from tests.encoder import shops
from tests.vectors import shops as bare
from tests.vectors.planted import COLOUR, PlainModel, changed

N = 144


def only(catalogue, column: str, model=None) -> ColumnResult:
    (gaps,) = complete.predict_missing(catalogue, model or PlainModel(), [column], seed=0)
    return gaps


def test_colours_that_pictures_show_are_filled_in() -> None:
    own = shops.catalogue(N)
    gone = [row for row in range(0, N, 5) if own.images.present[row] and own.frame[COLOUR][row]]
    truth = own.frame[COLOUR].gather(gone).to_list()
    gaps = only(changed(own, attributes__colour=dict.fromkeys(gone)), COLOUR)
    assert gaps.attribute == "colour" and gaps.reason == ""
    assert (
        gaps.missing_count == len(gaps.rows) == len(gaps.values)
        and gaps.held_out_count == gaps.known_count == N - gaps.missing_count
    )
    assert set(gone) <= set(gaps.rows.tolist())
    guessed = dict(zip(gaps.rows.tolist(), gaps.values, strict=True))
    assert [guessed[row] for row in gone] == truth
    assert gaps.accuracy > 0.85 > 2 * gaps.majority_accuracy and gaps.calibration_error < 0.15
    sure = dict(zip(gaps.rows.tolist(), gaps.confidence, strict=True))
    blind = [row for row in guessed if not own.images.present[row]]
    assert blind and min(sure[row] for row in gone) > max(sure[row] for row in blind)


def test_the_column_asked_about_is_hidden_from_vectors_and_words() -> None:
    own, model = shops.catalogue(N), PlainModel()
    only(own, "brand", model)
    assert ("brand",) in model.hidden and () in model.hidden  # without hiding: the pictures alone
    other = changed(own, brand={row: f"Brand{row % 7}" for row in range(N)})
    assert (
        complete.tfidf_without(own, "brand", max_words=10**6) != complete.tfidf_without(other, "brand", max_words=10**6)
    ).nnz == 0
    assert (
        complete.tfidf_without(own, "brand", max_words=10**6).shape
        != complete.tfidf_without(own, "category", max_words=10**6).shape
    )


def test_what_is_drawn_at_random_cannot_be_guessed() -> None:
    g = np.random.default_rng(0)
    drawn = {row: ["x", "y"][int(g.integers(2))] if row % 4 else None for row in range(N)}
    gaps = only(changed(shops.catalogue(N), brand=drawn), "brand")
    assert gaps.accuracy < 0.66 and gaps.confidence.mean() < 0.7


def test_several_values_come_back_as_several() -> None:
    own = shops.catalogue(N)
    # seasons by colour here, so that they can be told; those of black things have two
    season = {"red": "summer", "green": "spring", "blue": "winter", "black": "summer | spring"}
    told = {row: season[list(shops.COLOURS)[row % 4]] if row % 6 else None for row in range(N)}
    gaps = only(changed(own, attributes__fits=told), "attributes.fits")
    truth = ["spring | summer" if row % 4 == 3 else season[list(shops.COLOURS)[row % 4]] for row in gaps.rows]
    right = [one == other for one, other in zip(gaps.values, truth, strict=True)]
    assert np.mean(right) > 0.65 and "spring | summer" in gaps.values
    assert gaps.accuracy > 0.65 > 1.5 * gaps.majority_accuracy


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["red", None] * 15, "only 15 known values; at least 20"),
        (["red"] * 29 + [None], "all known values are the same"),
        ([f"v{row}" for row in range(29)] + [None], "nearly every product has a value of its own"),
        (["red", "blue"] * 15, "nothing is missing"),
    ],
)
def test_what_cannot_be_asked_is_said(values: list[str | None], why: str) -> None:
    model = PlainModel()
    gaps = only(bare.catalogue({"attributes.colour": values}), COLOUR, model)
    assert gaps.reason.startswith(why) and gaps.values == () and gaps.accuracy is None
    assert gaps.known_count + gaps.missing_count == 30
    assert model.hidden == []


def test_values_that_stand_once_and_empty_products_do_no_harm() -> None:
    values = ["red", "blue"] * 14 + ["teal", "pink", None]
    catalogue = bare.catalogue({"title": [value and f"{value} hat" for value in values], "brand": values})
    gaps = only(catalogue, "brand")
    assert gaps.accuracy == pytest.approx(28 / 30, abs=0.05)
    assert gaps.rows.tolist() == [30] and gaps.values[0] in {"red", "blue"}
    assert 0 <= gaps.confidence[0] < 0.8  # nothing is known of that product


def test_names_are_those_people_use() -> None:
    own = shops.catalogue(24)
    assert complete.resolve_columns(own, []) == ["brand", "category", COLOUR, "attributes.fits"]
    assert complete.resolve_columns(own, ["fits", COLOUR, "colour"]) == ["attributes.fits", COLOUR]
    for name, kind, words in (
        ("color", NotFoundError, "unknown attribute 'color'; did you mean 'colour'"),
        ("zzz", NotFoundError, "unknown attribute 'zzz'; there are brand, category, colour, fits"),
        ("price", UsageError, "'price' holds numbers"),
        ("title", UsageError, "'title' is not an attribute"),
    ):
        with pytest.raises(kind, match=words):
            complete.resolve_columns(own, [name])
    empty = bare.catalogue({"title": ["a"], "brand": [None]})
    with pytest.raises(UsageError, match="no product has a value to learn from; no category"):
        complete.resolve_columns(empty, ["brand"])
    assert complete.display_name("attributes.brand") == "attributes.brand"  # brand is a column of its own


def test_only_the_commonest_values_can_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "MAX_VALUES", 2)
    names, truth = complete.indicator_matrix([("c",), ("a",), ("a",), ("b", "c"), ("b",), ()])
    assert names == ["a", "b"]
    assert truth.tolist() == [[False] * 2, [True, False], [True, False], [False] * 2, [False, True], [False] * 2]
