"""One string is one id in every argument, whatever holds it; anything else is refused with what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.arguments import (
    is_frame,
    optional_count,
    path_list,
    positive_count,
    require_frame,
    require_mapping,
    single_path,
    single_text,
    text_list,
)
from recsys.errors import UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
FRAME = pl.DataFrame({"user_id": ["u1"]})


@given(TEXT)
def test_a_string_is_one_text_and_one_path(text: str) -> None:
    assert text_list(text, "users") == [text]
    assert single_text(text, "product") == text
    assert path_list(text, "paths") == [Path(text)]


@given(st.lists(TEXT, max_size=5))
def test_whatever_holds_texts_holds_the_same(texts: list[str]) -> None:
    held: list[Any] = [
        texts,
        tuple(texts),
        iter(texts),
        dict.fromkeys(texts).keys() if len(set(texts)) == len(texts) else texts,
        pl.Series(texts, dtype=pl.String),
        pd.Series(texts, dtype=object),
        pd.Series(texts, dtype="string"),
        pd.Index(texts, dtype=object),
        np.array(texts, dtype=object),
        pa.array(texts, pa.string()),
        pa.chunked_array([pa.array(texts, pa.string())]),
    ]
    for value in held:
        assert text_list(value, "users") == texts, type(value)
    assert text_list(set(texts), "users") == sorted(set(texts))
    assert text_list(np.array(texts), "users") == texts if texts and not any(t.endswith("\0") for t in texts) else True


@pytest.mark.parametrize(
    "value",
    [123, [1, 2], ("u1", 2), 1.0, True, np.int64(3), np.arange(2), pl.Series([1]), pd.Series([1.0]), pa.array([7])],
)
def test_numbers_are_refused_and_str_is_named(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^users: .* is of type \w+, but an id is text; write str\(.*\)$"):
        text_list(value, "users")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (FRAME, "not a frame"),
        (FRAME.lazy(), "not a frame"),
        (FRAME.to_pandas(), "not a frame"),
        (FRAME.to_arrow(), "not a frame"),
        ({"u1": 1}, "as a list, not a dict"),
        ([None], "None is no id; leave it out"),
        (pl.Series(["u1", None]), "None is no id"),
        (b"u1", r"decode it with .decode\(\)"),
        ([["u1"]], "give each id as a text"),
        ("", "an empty text is no id"),
        (["u1", ""], "an empty text is no id"),
    ],
)
def test_what_is_no_text_is_refused(value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        text_list(value, "users")
    assert text_list(None, "users") == []


def test_one_is_not_several() -> None:
    with pytest.raises(UsageError, match="product: give one id as a text, not a list"):
        single_text(["p1"], "product")
    with pytest.raises(UsageError, match=r"write str\(7\)"):
        single_text(7, "product")
    with pytest.raises(UsageError, match="labels: give the path of one file or folder, not a list"):
        single_path(["a"], "labels")  # type: ignore[arg-type]
    assert single_path(None, "labels") is None and single_path("a", "labels") == Path("a")


def test_frames_and_paths_are_told_apart() -> None:
    assert path_list(["a", Path("b")], "paths") == [Path("a"), Path("b")]
    for value in (FRAME, FRAME.to_pandas(), FRAME.to_arrow(), [FRAME], {"product_id": ["p1"]}):
        with pytest.raises(UsageError, match="paths: a path is expected here; give frames as products="):
            path_list(value, "paths", if_frame="give frames as products=")
    for value in (7, [None], [1.5]):
        with pytest.raises(UsageError, match="give the path of a file or folder"):
            path_list(value, "paths")
    for value in ("products.csv", Path("products.csv")):
        with pytest.raises(UsageError, match="a frame is expected here, not the path 'products.csv'; read it first"):
            require_frame(value, "products", remedy="read it first")
    require_frame(FRAME, "products", remedy="")
    assert is_frame(FRAME) and not is_frame(FRAME["user_id"]) and not is_frame("u1")


@given(st.integers())
def test_counts_start_at_one(value: int) -> None:
    if value >= 1:
        assert positive_count(value) == value == optional_count(value)
    else:
        for check in (positive_count, optional_count):
            with pytest.raises(UsageError, match=f"k is {value}; it must be at least 1"):
                check(value)


@pytest.mark.parametrize("value", [True, 1.5, "3", [3]])
def test_a_count_is_a_whole_number(value: Any) -> None:
    with pytest.raises(UsageError, match="give a whole number of at least 1"):
        positive_count(value)
    assert positive_count(np.int64(3)) == 3 and optional_count(None) is None  # type: ignore[arg-type]


def test_a_dictionary_is_asked_for() -> None:
    with pytest.raises(UsageError, match='minus: give a dictionary such as {"text": "red"}, not a str'):
        require_mapping("red", "minus", example='{"text": "red"}')
    require_mapping(None, "minus", example="")
