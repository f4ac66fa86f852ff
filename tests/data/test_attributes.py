"""Attributes survive the way from columns to JSON and back."""

from __future__ import annotations

import logging

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import attributes

VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), st.floats(-1e9, 1e9)
)


def test_canonical_json_does_not_depend_on_how_it_was_written() -> None:
    texts, bad = attributes.canonicalize(
        pl.Series(['{"b": 1, "a": "x", "n": null, "e": ""}', '{"a":"x","b":1}', "{}", None])
    )
    assert texts.to_list() == ['{"a":"x","b":1}'] * 2 + [None, None]
    assert not bad.any()


def test_attributes_without_content_are_none_and_lists_of_names_and_values_are_objects() -> None:
    cells = ["null", "[]", "{}", '{"a": NaN}', '[{"name": "c", "value": "red"}]']
    texts, bad = attributes.canonicalize(pl.Series(cells))
    assert texts.to_list() == [None, None, None, None, '{"c":"red"}']
    assert not bad.any()


@pytest.mark.parametrize("cell", ["[1]", "5", "{", '{"a": "\\ud800"}', "[" * 100_000, "nothing"])
def test_what_is_no_object_is_bad(cell: str) -> None:
    assert attributes.canonicalize(pl.Series([cell]))[1].to_list() == [True]


@given(
    st.lists(st.fixed_dictionaries({"colour": st.none() | VALUES, "size": st.none() | st.floats(-99, 99)}), min_size=1)
)
def test_fold_and_unfold(rows: list[dict[str, object]]) -> None:
    colours = [None if row["colour"] is None else str(row["colour"]).strip() for row in rows]
    sizes = [row["size"] for row in rows]
    frame = pl.DataFrame({"c": pl.Series(colours, dtype=pl.String), "s": pl.Series(sizes, dtype=pl.Float64)})
    back = attributes.unfold(attributes.fold(frame, {"c": "colour", "s": "size"}))
    for name, values in (("attributes.colour", colours), ("attributes.size", sizes)):
        if any(value is not None for value in values):
            assert back[name].to_list() == values
        else:
            assert name not in back.columns


def test_kinds_of_columns() -> None:
    cells = [
        '{"n": 1, "mixed": 1, "tags": ["a", "b"], "deep": {"x": 1}, "yes": true}',
        '{"n": 2.5, "mixed": "one"}',
        None,
    ]
    frame = attributes.unfold(pl.Series(cells))
    assert frame.columns == [f"attributes.{name}" for name in ("deep", "mixed", "n", "tags", "yes")]
    assert frame["attributes.n"].to_list() == [1.0, 2.5, None]
    assert frame["attributes.mixed"].to_list() == ["1", "one", None]
    assert frame["attributes.tags"].to_list() == ["a | b", None, None]
    assert frame["attributes.deep"].to_list()[0] == '{"x": 1}'
    assert frame["attributes.yes"].to_list()[0] == "true"


def test_too_many_attributes_are_cut_aloud(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "MAX_ATTRIBUTES", 2)
    monkeypatch.setattr(logging.getLogger("recsys"), "propagate", True)
    frame = attributes.unfold(pl.Series(['{"a": 1, "b": 1}', '{"b": 1, "c": 1}', '{"c": 1}']))
    assert frame.columns == ["attributes.b", "attributes.c"]
    assert "3 different attributes" in caplog.text


@given(st.lists(st.sampled_from(['{"a":1}', '{"a":2,"b":["x","y"]}', '{"b":"z"}', "{}", None])))
def test_texts_that_stand_several_times_are_unfolded_as_if_each_stood_once(cells: list[str | None]) -> None:
    column = pl.Series(cells, dtype=pl.String)
    together = attributes.unfold(column)
    for row, cell in enumerate(cells):
        alone = attributes.unfold(pl.Series([cell], dtype=pl.String))
        for name in together.columns:
            assert together[name][row] == (alone[name][0] if name in alone.columns else None)
