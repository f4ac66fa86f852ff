"""Cells to values, column by column: numbers, times, truth values, ids and text, whatever type they come in.

In: a polars column of any type. Out: the parsed column, null where a cell is empty or cannot be read.
"""

from __future__ import annotations

import json
from typing import Final

import polars as pl

NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_ISO: Final = (
    r"^(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})"
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,]\d{1,9})?)?"
    r"\s*(?P<z>Z|z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?)?$"
)
_DAY: Final = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
UNITS: Final = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_LIMITS: Final = (1e11, 1e14, 1e17)
_YES: Final = (
    "true",
    "t",
    "1",
    "1.0",
    "yes",
    "y",
    "in stock",
    "in_stock",
    "instock",
    "available",
    "preorder",
    "backorder",
)
_NO: Final = (
    "false",
    "f",
    "0",
    "0.0",
    "no",
    "n",
    "out of stock",
    "out_of_stock",
    "outofstock",
    "unavailable",
    "sold out",
)


def text(column: pl.Series) -> pl.Series:
    """Text of each cell; lists and structs become JSON, empty text becomes null."""
    if column.dtype == pl.Binary:
        column = pl.Series(column.name, [_decoded(value) for value in column.to_list()], dtype=pl.String)
    elif column.dtype.is_nested() or column.dtype == pl.Object:
        cells = [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.to_list()
        ]
        column = pl.Series(column.name, cells, dtype=pl.String)
    elif column.dtype != pl.String:
        column = column.cast(pl.String)
    return column.set(column == "", None) if column.len() else column


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def ids(column: pl.Series) -> tuple[pl.Series, bool]:
    """Text of each id, and whether whole numbers had to be made of floating point (pandas columns with gaps)."""
    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        if bool((whole.cast(pl.Float64) == column).all()):  # nulls are left out of account
            return text(whole), True
    found = text(column)
    return (found.set(found.str.strip_chars() == "", None) if found.len() else found), False


def numbers(column: pl.Series, *, decimal: str = ".") -> pl.Series:
    """Finite numbers as Float64."""
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        found = column.cast(pl.Float64)
    elif column.dtype == pl.Boolean or column.dtype.is_temporal():
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Float64)
    else:
        cells = text(column).str.strip_chars()
        if decimal == ",":  # a point would be read as the other mark, so it makes no number
            cells = cells.str.replace_all(".", "?", literal=True).str.replace(",", ".", literal=True)
        found = cells.set(~cells.str.contains(NUMBER), None).cast(pl.Float64, strict=False)
    return found.set(~found.is_finite(), None)


def truths(column: pl.Series) -> pl.Series:
    """Truth values; also the words shops use for stock."""
    if column.dtype == pl.Boolean:
        return column
    cells = text(column).str.strip_chars().str.to_lowercase()
    frame = pl.DataFrame({"cell": cells})
    found = frame.select(
        pl.when(pl.col("cell").is_in(_YES)).then(True).when(pl.col("cell").is_in(_NO)).then(False).otherwise(None)
    ).to_series()
    return found.rename(column.name)


def times(column: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    """UTC seconds as Int64, and how many cells were numbers of which unit.

    Numbers are told apart by magnitude: below 1e11 seconds, then milliseconds, microseconds, nanoseconds. Eight
    digits that make a date (20200916) are one. Text is ISO 8601, year first; without a zone it is UTC.
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        moments = column.cast(pl.Datetime("us"))
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            moments = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
        return moments.dt.epoch("s").cast(pl.Int64), {}
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        return _epochs(column.cast(pl.Float64))
    if column.dtype.is_temporal() or column.dtype == pl.Boolean:
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Int64), {}
    cells = text(column).str.strip_chars()
    days = cells.str.contains(_DAY).fill_null(value=False)
    plain = cells.str.contains(NUMBER).fill_null(value=False) & ~days
    epochs, units = _epochs(cells.set(~plain, None).cast(pl.Float64, strict=False))
    if bool(days.any()):
        slashed = cells.set(~days, None).str.replace(r"^(\d{4})(\d{2})(\d{2})$", "$1-$2-$3")
        cells = cells.zip_with(~days, slashed)
    if bool(plain.all()) and cells.len():
        return epochs.rename(column.name), units
    written = _iso(cells.set(plain, None))
    return epochs.zip_with(plain, written).rename(column.name), units


def _epochs(values: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    frame = pl.DataFrame({"v": values.cast(pl.Float64)})
    size = pl.col("v").abs()
    unit = sum(((size >= limit).cast(pl.Int8) for limit in _LIMITS), start=pl.lit(0, dtype=pl.Int8))
    frame = frame.with_columns(
        unit.alias("unit"), pl.when(pl.col("v").is_finite() & (size < 1e20)).then(pl.col("v")).alias("v")
    ).with_columns((pl.col("v") / (1000.0 ** pl.col("unit").cast(pl.Float64))).floor().cast(pl.Int64).alias("s"))
    counts = frame.filter(pl.col("v").is_not_null()).group_by("unit").len().sort("unit").rows()
    return frame["s"].rename(values.name), {UNITS[place]: number for place, number in counts}


def _iso(cells: pl.Series) -> pl.Series:
    parts = pl.DataFrame({"cell": cells}).select(pl.col("cell").str.extract_groups(_ISO)).unnest("cell")
    day = [pl.col("y"), pl.col("m").str.zfill(2), pl.col("d").str.zfill(2)]
    clock = [pl.col("H").fill_null("0").str.zfill(2), pl.col("M").fill_null("00"), pl.col("S").fill_null("00")]
    zone = pl.col("z").str.replace(":", "", literal=True)
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    offset = pl.when(zone.str.contains(r"^[+-]")).then(
        sign
        * (
            zone.str.slice(1, 2).cast(pl.Int64) * 3600
            + zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0) * 60
        )
    )
    moment = (pl.concat_str(day, separator="-") + " " + pl.concat_str(clock, separator=":")).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    )
    return parts.select((moment.dt.epoch("s").cast(pl.Int64) - offset.fill_null(0)).alias("s")).to_series()
