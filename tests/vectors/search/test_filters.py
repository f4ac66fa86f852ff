from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.errors import UsageError
from recsys.vectors.search.filters import parse_filter

FRAME = pl.DataFrame(
    {
        "product_id": ["001", "002", "003", "004"],
        "title": ["Red boots", "blue Boots", None, "it's a hat"],
        "price": [10.0, None, 50.0, float("nan")],
        "available": [True, False, None, True],
        "created_at": [0, 1_600_000_000, 1_700_000_000, None],
        "attributes.colour": ["red", "Blue", "red | blue", None],
        "attributes.heel height": [1, 2, 3, None],
        "attributes.price": ["x", "x", "x", "x"],
        "attributes.and": ["a", "b", "c", "d"],
    }
)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("price < 40", [0]),
        ("price<=10", [0]),
        ("price > 10", [2]),
        ("not price < 40", [2]),  # a missing price is neither
        ("not not price < 40", [0]),
        ("price is null", [1, 3]),
        ("price is not null", [0, 2]),
        ("price between 10 and 50", [0, 2]),
        ("price not between 5 and 15", [2]),
        ("price in (1, 50.0)", [2]),
        ("price = -1e3 or price >= 5e1", [2]),
        ("price <> 10", [2]),
        ("price != 10", [2]),
        ("available = true", [0, 3]),
        ("available = FALSE or title contains HAT", [1, 3]),
        ("product_id = 001", [0]),  # an id is text, however it looks
        ("product_id = 1", []),
        ("product_id in ('003',\"004\")", [2, 3]),
        ("product_id not in (003, 004)", [0, 1]),
        ("title contains 'BOOTS'", [0, 1]),
        ("title not contains boots", [3]),
        ("title = 'it''s a hat'", [3]),
        ('title == "it\'s a hat"', [3]),
        ("colour = red", [0]),
        ("attributes.colour = 'red'", [0]),
        ("colour contains blue", [1, 2]),
        ('"heel height" >= 2', [1, 2]),
        ('"attributes.heel height" = 1', [0]),
        ('"and" = b AND "and" <= \'z\'', [1]),
        ("attributes.price = x and price = 10", [0]),  # the short name is the product's own column
        ("created_at >= 2020-09-13", [1, 2]),
        ("created_at > 2020-09-13T12:26:40", [2]),
        ("created_at = 1600000000", [1]),
        ("price = 10 or price = 50 and available = true", [0]),  # and binds closer
        ("(price = 10 or price = 50) and not available = true", []),
        ("not (price = 10 or title is null)", []),  # missing or false is missing, and so is its opposite
        (" \t price\n<\n40 ", [0]),
        ("price < 1 or " * 760 + "price < 40", [0]),
        ("not " * 2000 + "price < 40", [0]),
        ("price in (" + "1," * 4000 + "10)", [0]),
        ("price<-5 or price >-1.5e-3", [0, 2]),
    ],
)
def test_conditions(where, rows):
    met = parse_filter(where, FRAME)
    assert met.dtype == np.bool_ and met.shape == (4,)
    assert np.flatnonzero(met).tolist() == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "expected a column at character 1, found its end"),
        ("   ", "expected a column"),
        ("pirce < 3", "no column 'pirce'; did you mean 'price'"),
        ("1=1", "no column '1'"),
        ("price", "expected a test of price, such as '='"),
        ("price <", "expected a value at character 8, found its end"),
        ("price < and", "expected a value at character 9, found 'and'"),
        ("price < 'abc'", "column price holds numbers, and 'abc' is none"),
        ("price < nan", "'nan' is none"),
        ("price < 1_000", "'1_000' is none"),
        ("price < ٣", "is none"),
        ("available = 1", "holds true or false, not '1'"),
        ("title > 5", "quote 5 to compare letter by letter"),
        ("(price < 1", r"expected '\)' at character 11"),
        ("price < 1)", "expected 'and', 'or' or the end at character 10, found '\\)'"),
        ("price in ()", "expected a value"),
        ("price in (1", r"expected '\)'"),
        ("price in 1", r"expected '\('"),
        ("price between 1", "expected 'and'"),
        ("price is 3", "expected 'null'"),
        ("price not < 3", "expected a test of price"),
        ("title = 'open", 'cannot read "\'" at character 9'),
        ("price ! 3", "cannot read '!' at character 7"),
        ("price < 3; drop table products", "'3;' is none"),
        ("__import__('os')", "no column '__import__'"),
        ("price < 3 UNION SELECT password FROM users", "expected 'and', 'or' or the end at character 11"),
        ("price = (SELECT 1)", r"expected a value at character 9, found '\('"),
        ("title = 'x' OR '1'='1'", "no column '1'"),
        ("price < 3 -- and", "found '--'"),
        ("price < 1 and " * 500 + "price <", r"found its end: \.\.\.[^.]{90,110}$"),
        ("(" * 60 + "price < 1" + ")" * 60, "more than 50 parentheses"),
        ("price < 1 or " * 1000 + "price < 1", "at most 10000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place(where, message):
    with pytest.raises(UsageError, match=message):
        parse_filter(where, FRAME)


def test_a_value_no_product_has_is_said_aloud(caplog):
    assert not parse_filter("colour = bleu or colour in ('Bluee', red)", FRAME)[1]
    assert "no product has attributes.colour = 'bleu'" in caplog.text
    assert "no product has attributes.colour = 'Bluee'; did you mean 'Blue'?" in caplog.text
    assert "'red'" not in caplog.text


def test_no_products_no_answer():
    assert parse_filter("price < 3 and colour = red", FRAME.clear()).shape == (0,)


@example("price < 1 or price < 1")
@given(st.text(max_size=60) | st.lists(st.sampled_from([
    "price", "colour", "title", "available", "(", ")", "and", "or", "not", "in", "between", "is", "null", "contains",
    "<", "=", ">=", ",", "1", "2.5", "'red'", "true", '"heel height"',
]), max_size=14).map(" ".join))  # fmt: skip
def test_any_text_is_answered_or_refused_in_words(where):
    try:
        met = parse_filter(where, FRAME)
    except UsageError as error:
        assert str(error).startswith("where: ")
    else:
        assert met.shape == (4,)


@given(
    low=st.floats(-5, 60),
    high=st.floats(-5, 60),
    colours=st.lists(st.sampled_from(["red", "Blue", "none"]), min_size=1),
)
def test_conditions_mean_what_python_means(low, high, colours):
    where = f"(price >= {low!r} and price < {high!r}) or not colour in ({', '.join(map(repr, colours))})"
    expected = []
    for price, colour in zip([10.0, None, 50.0, None], FRAME["attributes.colour"], strict=True):
        between = price is not None and low <= price < high
        expected.append(between or (colour is not None and colour not in colours))
    assert parse_filter(where, FRAME).tolist() == expected
