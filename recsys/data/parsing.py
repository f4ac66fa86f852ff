"""Parse columns of any type as numbers, times, booleans, ids or text.

In: a polars column. Out: the parsed column, null where a cell is empty or cannot be parsed.
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
    """Convert cells to text; lists and structs become JSON, empty text becomes null."""
    if column.dtype == pl.Binary:
        column = pl.Series(column.name, [_decode(value) for value in column.to_list()], dtype=pl.String)
    elif column.dtype.is_nested() or column.dtype == pl.Object:
        cells = [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.to_list()
        ]
        column = pl.Series(column.name, cells, dtype=pl.String)
    elif column.dtype != pl.String:
        column = column.cast(pl.String)
    return column.set(column == "", None) if column.len() else column


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def ids(column: pl.Series) -> tuple[pl.Series, bool]:
    """Convert ids to text; also return whether floats became whole numbers (pandas columns with gaps)."""
    if column.dtype.is_float():
        integers = column.cast(pl.Int64, strict=False)
        if bool((integers.cast(pl.Float64) == column).all()):  # `all` ignores nulls
            return text(integers), True
    texts = text(column)
    return (texts.set(texts.str.strip_chars() == "", None) if texts.len() else texts), False


def numbers(column: pl.Series, *, decimal: str = ".") -> pl.Series:
    """Parse finite numbers as Float64."""
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        values = column.cast(pl.Float64)
    elif column.dtype == pl.Boolean or column.dtype.is_temporal():
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Float64)
    else:
        cells = text(column).str.strip_chars()
        if decimal == ",":  # a point is no decimal mark then, so the cell is no number
            cells = cells.str.replace_all(".", "?", literal=True).str.replace(",", ".", literal=True)
        values = cells.set(~cells.str.contains(NUMBER), None).cast(pl.Float64, strict=False)
    return values.set(~values.is_finite(), None)


def booleans(column: pl.Series) -> pl.Series:
    """Parse booleans, including the words that shops use for availability."""
    if column.dtype == pl.Boolean:
        return column
    cells = text(column).str.strip_chars().str.to_lowercase()
    frame = pl.DataFrame({"cell": cells})
    booleans = frame.select(
        pl.when(pl.col("cell").is_in(_YES)).then(True).when(pl.col("cell").is_in(_NO)).then(False).otherwise(None)
    ).to_series()
    return booleans.rename(column.name)


def times(column: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    """Parse times as UTC seconds, Int64; also return the number of numeric cells for each unit.

    The unit of a number follows from its magnitude: seconds below 1e11, then milliseconds, microseconds, nanoseconds.
    Text of eight digits that form a date (20200916) is a date. Other text is ISO 8601; without a zone it is UTC.
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        timestamps = column.cast(pl.Datetime("us"))
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            timestamps = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
        return timestamps.dt.epoch("s").cast(pl.Int64), {}
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        return _parse_epochs(column.cast(pl.Float64))
    if column.dtype.is_temporal() or column.dtype == pl.Boolean:
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Int64), {}
    cells = text(column).str.strip_chars()
    is_day = cells.str.contains(_DAY).fill_null(value=False)
    is_number = cells.str.contains(NUMBER).fill_null(value=False) & ~is_day
    epochs, units = _parse_epochs(cells.set(~is_number, None).cast(pl.Float64, strict=False))
    if bool(is_day.any()):
        dates = cells.set(~is_day, None).str.replace(r"^(\d{4})(\d{2})(\d{2})$", "$1-$2-$3")
        cells = cells.zip_with(~is_day, dates)
    if bool(is_number.all()) and cells.len():
        return epochs.rename(column.name), units
    iso_times = _parse_iso(cells.set(is_number, None))
    return epochs.zip_with(is_number, iso_times).rename(column.name), units


def _parse_epochs(values: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    frame = pl.DataFrame({"v": values.cast(pl.Float64)})
    size = pl.col("v").abs()
    unit = sum(((size >= limit).cast(pl.Int8) for limit in _LIMITS), start=pl.lit(0, dtype=pl.Int8))
    frame = frame.with_columns(
        unit.alias("unit"), pl.when(pl.col("v").is_finite() & (size < 1e20)).then(pl.col("v")).alias("v")
    ).with_columns((pl.col("v") / (1000.0 ** pl.col("unit").cast(pl.Float64))).floor().cast(pl.Int64).alias("s"))
    counts = frame.filter(pl.col("v").is_not_null()).group_by("unit").len().sort("unit").rows()
    return frame["s"].rename(values.name), {UNITS[index]: number for index, number in counts}


def _parse_iso(cells: pl.Series) -> pl.Series:
    parts = pl.DataFrame({"cell": cells}).select(pl.col("cell").str.extract_groups(_ISO)).unnest("cell")
    day = [pl.col("y"), pl.col("m").str.zfill(2), pl.col("d").str.zfill(2)]
    time = [pl.col("H").fill_null("0").str.zfill(2), pl.col("M").fill_null("00"), pl.col("S").fill_null("00")]
    zone = pl.col("z").str.replace(":", "", literal=True)
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    offset = pl.when(zone.str.contains(r"^[+-]")).then(
        sign
        * (
            zone.str.slice(1, 2).cast(pl.Int64) * 3600
            + zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0) * 60
        )
    )
    local = (pl.concat_str(day, separator="-") + " " + pl.concat_str(time, separator=":")).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    )
    return parts.select((local.dt.epoch("s").cast(pl.Int64) - offset.fill_null(0)).alias("s")).to_series()
