"""Cells of every type come out as the one value they mean, or as none."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import parsing as parse

NOON = 1_600_257_600  # 2020-09-16T12:00:00Z


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("2020-09-16T12:00:00Z", NOON),
        ("2020-09-16 12:00:00.123456", NOON),
        ("2020-09-16T14:00+02:00", NOON),
        ("2020-09-16T07:30:00-0430", NOON),
        ("2020/9/16 12:00", NOON),
        ("2020-09-16", NOON - 12 * 3600),
        ("20200916", NOON - 12 * 3600),
        (str(NOON), NOON),
        (str(NOON * 1000), NOON),
        (str(NOON * 10**6), NOON),
        (str(NOON * 10**9), NOON),
        (f"{NOON}.75", NOON),
        ("2020-02-30", None),
        ("2020-13-01", None),
        ("2020-09-16T25:00:00", None),
        ("16.09.2020", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_in_text(cell: str, seconds: int | None) -> None:
    assert parse.times(pl.Series("t", [cell]))[0].to_list() == [seconds]
    assert parse.times(pl.Series("t", [cell, "2020-09-16T12:00:00Z", None]))[0].to_list() == [seconds, NOON, None]


def test_times_in_their_own_types() -> None:
    moment = dt.datetime(2020, 9, 16, 12, tzinfo=dt.UTC)
    berlin = pl.Series("t", [moment]).dt.convert_time_zone("Europe/Berlin")
    assert parse.times(berlin)[0].to_list() == [NOON]
    assert parse.times(pl.Series("t", [moment.replace(tzinfo=None)]).cast(pl.Datetime("ns")))[0].to_list() == [NOON]
    assert parse.times(pl.Series("t", [moment.date()]))[0].to_list() == [NOON - 12 * 3600]
    assert parse.times(pl.Series("t", [NOON * 1000, None], dtype=pl.Int64))[0].to_list() == [NOON, None]


def test_units_are_counted() -> None:
    assert parse.times(pl.Series("t", [NOON, NOON * 1000, NOON * 1000]))[1] == {"seconds": 1, "milliseconds": 2}


@given(st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2100, 1, 1)))
def test_any_moment_is_read_back(moment: dt.datetime) -> None:
    wanted = int(moment.replace(tzinfo=dt.UTC, microsecond=0).timestamp())
    assert (
        parse.times(pl.Series("t", [moment.isoformat(), moment.isoformat(" ") + "+00:00"]))[0].to_list() == [wanted] * 2
    )


@pytest.mark.parametrize(
    ("cell", "point", "comma"),
    [
        ("12.50", 12.5, None),
        ("12,50", None, 12.5),
        (" 7 ", 7.0, 7.0),
        ("1e3", 1000.0, 1000.0),
        ("1,234.50", 1234.5, None),
        ("1_000", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("1e999", None, None),
        ("12 EUR", None, None),
        ("٣", None, None),
    ],
)
def test_numbers(cell: str, point: float | None, comma: float | None) -> None:
    assert parse.numbers(pl.Series([cell])).to_list() == [point]
    assert parse.numbers(pl.Series([cell]), decimal=",").to_list() == [comma]


def test_numbers_in_their_own_types() -> None:
    assert parse.numbers(pl.Series([1.5, float("nan"), float("inf"), None])).to_list() == [1.5, None, None, None]
    assert parse.numbers(pl.Series([2**63 + 5], dtype=pl.UInt64)).to_list() == [float(2**63)]
    assert parse.numbers(pl.Series([True])).to_list() == [None]


def test_ids_keep_their_zeros_and_lose_the_point_pandas_gave_them() -> None:
    assert parse.ids(pl.Series(["007", " ", "", None]))[0].to_list() == ["007", None, None, None]
    assert parse.ids(pl.Series([17850.0, None]))[0].to_list() == ["17850", None]
    assert parse.ids(pl.Series([2**64 - 1], dtype=pl.UInt64))[0].to_list() == [str(2**64 - 1)]
    assert parse.ids(pl.Series([1.5]))[0].to_list() == ["1.5"]


def test_truths() -> None:
    assert parse.booleans(pl.Series(["Yes", "0", "in stock", "out_of_stock", "maybe", None])).to_list() == [
        True, False, True, False, None, None,
    ]  # fmt: skip
    assert parse.booleans(pl.Series([1, 0, 2])).to_list() == [True, False, True]
