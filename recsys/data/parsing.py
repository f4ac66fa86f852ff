"""Parse columns of any type as numbers, prices, times, booleans, ids or text.

In: a polars column. Out: the parsed column, null where a cell is empty or cannot be parsed.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Final
from uuid import UUID

import polars as pl

from recsys.data.value_words import AVAILABLE, NULL_WORDS, UNAVAILABLE

NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_GROUPED: Final = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"
"""A number with thousands separators; the separator is the mark that is not the decimal one."""
_SPACED: Final = r"^([+-]?\d{1,3})((?:[\s'’\u00a0\u202f]\d{3})+)"
_CURRENCY_SIGN: Final = {
    "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW", "₺": "TRY", "₫": "VND", "฿": "THB",
    "₪": "ILS", "₴": "UAH", "R$": "BRL", "zł": "PLN", "Kč": "CZK", "US$": "USD", "A$": "AUD", "C$": "CAD", "$": "",
}  # fmt: skip
"""Currency signs; `$` names several currencies and tells none."""
_CURRENCY: Final = r"(?:US\$|A\$|C\$|R\$|zł|Kč|[\$€£¥₹₽₩₺₫฿₪₴]|\b[A-Z]{3}\b)"
MAX_NUMBER: Final = 1e38
"""Larger numbers do not fit float32, in which models compute."""
_ISO: Final = (
    r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,]\d{1,9})?)?"
    r"\s*(?P<z>Z|z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?)?$"
)
_DAY: Final = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
_MAX_OFFSET: Final = 14 * 3600
"""Seconds; no time zone is further from UTC."""
UNITS: Final = ("seconds", "milliseconds", "microseconds", "nanoseconds")
EXCEL_DAYS: Final = "days of Excel"
YYYYMMDD: Final = "dates YYYYMMDD"
_LIMITS: Final = (1e11, 1e14, 1e17)
_EXCEL_RANGE: Final = (20_000.0, 80_000.0)
"""Serial days of Excel from 1954 to 2119; as seconds since 1970 they would all lie in its first day."""
_EXCEL_EPOCH: Final = 25_569
"""Serial day of 1970-01-01."""
_EPOCH_SECONDS: Final = 1e8
"""From this value (1973) on, numbers are plausible seconds; smaller ones beside them, or beside dates, are no times."""


def text(column: pl.Series) -> pl.Series:
    """Convert cells to text; lists and structs become JSON, empty text becomes null."""
    if column.dtype == pl.Binary:
        column = _decode_binary(column)
    elif column.dtype.is_nested() or column.dtype == pl.Object:
        cells = [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.to_list()
        ]
        column = pl.Series(column.name, cells, dtype=pl.String)
    elif column.dtype != pl.String:
        column = column.cast(pl.String)
    return column.set(column == "", None) if column.len() else column


def _decode_binary(column: pl.Series) -> pl.Series:
    """Decode bytes as UTF-8; a column of 16 bytes each that are no text holds UUIDs."""
    values = column.to_list()
    try:
        texts = [None if value is None else value.decode() for value in values]
        is_text = not any("\x00" in value for value in texts if value)
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        is_uuid = all(len(value) == 16 for value in values if value is not None)
        texts = [
            None if value is None else str(UUID(bytes=value)) if is_uuid else value.decode("utf-8", "replace")
            for value in values
        ]
    return pl.Series(column.name, texts, dtype=pl.String)


def without_null_words(cells: pl.Series) -> tuple[pl.Series, int]:
    """Replace words for missing values (`NULL`, `nan`, `N/A`) by null; also return their number.

    Args:
        cells: (n,) String.
    """
    stripped = cells.str.strip_chars()
    is_null = (stripped.str.to_lowercase().is_in(NULL_WORDS) | (stripped == "NA")).fill_null(value=False)
    n_words = int(is_null.sum())
    return (cells.set(is_null, None), n_words) if n_words else (cells, 0)


def ids(column: pl.Series) -> tuple[pl.Series, bool]:
    """Convert ids to text; also return whether floats became whole numbers (pandas columns with gaps).

    Whole numbers written as `7001.0` lose the fraction if all ids of the column have one.
    """
    if column.dtype.is_float():
        integers = column.cast(pl.Int64, strict=False)
        if bool((integers.cast(pl.Float64) == column).all()):  # `all` ignores nulls
            return text(integers), True
    texts = text(column)
    if not texts.len():
        return texts, False
    texts = texts.set(texts.str.strip_chars() == "", None)
    values = without_null_words(texts)[0]
    is_fraction = values.str.contains(r"^\s*-?\d+\.0+\s*$")
    if bool(is_fraction.any()) and bool(is_fraction.all()):
        return texts.str.replace(r"\.0+(\s*)$", "$1"), True
    return texts, False


def numbers(column: pl.Series, *, decimal: str = ".") -> pl.Series:
    """Parse numbers as Float64, with or without thousands separators; null from `MAX_NUMBER` on."""
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        values = column.cast(pl.Float64)
    elif column.dtype == pl.Boolean or column.dtype.is_temporal():
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Float64)
    else:
        cells = text(column).str.strip_chars()
        if decimal == ",":  # exchange both marks
            swapped = cells.str.replace_all(".", "\x00", literal=True).str.replace_all(",", ".", literal=True)
            cells = swapped.str.replace_all("\x00", ",", literal=True)
        is_spaced = cells.str.contains(_SPACED).fill_null(value=False)
        if bool(is_spaced.any()):
            cells = cells.set(is_spaced, None).zip_with(~is_spaced, cells.str.replace_all(r"[\s'’\u00a0\u202f]", ","))
        is_grouped = cells.str.contains(_GROUPED).fill_null(value=False)
        if bool(is_grouped.any()):
            cells = cells.zip_with(~is_grouped, cells.str.replace_all(",", "", literal=True))
        values = cells.set(~cells.str.contains(NUMBER), None).cast(pl.Float64, strict=False)
    return values.set(~values.is_finite() | (values.abs() >= MAX_NUMBER), None)


def prices(column: pl.Series, *, decimal: str = ".") -> tuple[pl.Series, pl.Series]:
    """Parse prices with or without a currency: (n,) Float64, and (n,) String currency codes, null if none is named."""
    none = pl.Series("currency", [None] * column.len(), dtype=pl.String)
    if column.dtype != pl.String:
        return numbers(column, decimal=decimal), none
    values = numbers(column, decimal=decimal)
    is_open = values.is_null() & column.str.contains(_CURRENCY).fill_null(value=False)
    if not bool(is_open.any()):
        return values, none
    amounts = column.str.replace(_CURRENCY, "").str.strip_chars()
    signs = column.str.extract(f"({_CURRENCY})").replace(
        pl.Series(list(_CURRENCY_SIGN)), pl.Series([code or None for code in _CURRENCY_SIGN.values()], dtype=pl.String)
    )
    parsed = numbers(amounts, decimal=decimal)
    is_price = is_open & parsed.is_not_null()
    return values.zip_with(~is_price, parsed).rename(column.name), none.zip_with(~is_price, signs)


def booleans(column: pl.Series) -> pl.Series:
    """Parse booleans, including the words that shops use for availability and numbers of pieces in stock."""
    if column.dtype == pl.Boolean:
        return column
    cells = text(column).str.strip_chars().str.to_lowercase()
    cells = cells.str.replace(r"^(?:https?://)?(?:www\.)?schema\.org/", "").str.replace(r"\s*\(.*\)$", "")
    words = cells.str.replace_all(r"[\s_-]+", " ")
    frame = pl.DataFrame({"cell": words, "stock": numbers(cells)})
    values = frame.select(
        pl.when(pl.col("cell").is_in(AVAILABLE))
        .then(True)
        .when(pl.col("cell").is_in(UNAVAILABLE))
        .then(False)
        .when(pl.col("stock").is_not_null())
        .then(pl.col("stock") > 0)
    ).to_series()
    return values.rename(column.name)


def times(
    column: pl.Series, *, timezone: str = "UTC", date_format: str | None = None
) -> tuple[pl.Series, dict[str, int]]:
    """Parse times as UTC seconds, Int64; also return the number of numeric cells for each unit.

    The unit of a number follows from its magnitude: seconds below 1e11, then milliseconds, microseconds, nanoseconds.
    Eight digits that form a date (20200916) are a date. Numbers from 20,000 to 80,000, if all numbers of the column
    are among them, are serial days of Excel. Numbers below 1e8 (1973) beside dates or
    plausible seconds are no times. Other text is ISO 8601, or
    has the format `date_format` (of strptime).

    Args:
        column: (n,) any type.
        timezone: IANA name of the zone of times that have none.
        date_format: format to try first on text.
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        timestamps = column.cast(pl.Datetime("us"))
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            timestamps = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
            return timestamps.dt.epoch("s").cast(pl.Int64), {}
        return _localize(timestamps, timezone), {}
    if column.dtype.is_numeric() or column.dtype.is_decimal():
        return _parse_epochs(column.cast(pl.Float64), timezone)
    if column.dtype.is_temporal() or column.dtype == pl.Boolean:
        return pl.Series(column.name, [None] * column.len(), dtype=pl.Int64), {}
    cells = text(column).str.strip_chars()
    formatted = pl.Series(column.name, [None] * cells.len(), dtype=pl.Int64)
    if date_format is not None:
        formatted = _localize(cells.str.to_datetime(date_format, strict=False, time_unit="us"), timezone)
        cells = cells.set(formatted.is_not_null(), None)
    is_number = cells.str.contains(NUMBER).fill_null(value=False)
    iso_times = _parse_iso(cells.set(is_number, None), timezone)
    has_dates = bool((iso_times.is_not_null() | formatted.is_not_null()).any())
    epochs, units = _parse_epochs(
        cells.set(~is_number, None).cast(pl.Float64, strict=False), timezone, has_dates=has_dates
    )
    if bool(is_number.all()) and cells.len():
        return epochs.rename(column.name), units
    parsed = epochs.zip_with(is_number, iso_times)
    return formatted.zip_with(formatted.is_not_null(), parsed).rename(column.name), units


def _localize(timestamps: pl.Series, timezone: str) -> pl.Series:
    """Convert naive timestamps of a zone to UTC seconds; hours that a clock change skips or repeats are the first."""
    if timezone == "UTC":
        return timestamps.dt.epoch("s").cast(pl.Int64)
    zoned = timestamps.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    skipped = timestamps.dt.offset_by("1h").dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    seconds = zoned.dt.epoch("s").cast(pl.Int64)
    return seconds.zip_with(seconds.is_not_null(), skipped.dt.epoch("s").cast(pl.Int64))


def _parse_epochs(values: pl.Series, timezone: str, *, has_dates: bool = False) -> tuple[pl.Series, dict[str, int]]:
    """Parse numbers as times; `has_dates` = other cells of the column are dates, so small numbers are no times."""
    present = values.drop_nulls()
    units: Counter[str] = Counter()
    if not present.len():
        return pl.Series(values.name, [None] * values.len(), dtype=pl.Int64), {}
    is_day = _is_day(values)
    dates = pl.Series(values.name, [None] * values.len(), dtype=pl.Int64)
    if bool(is_day.any()):
        days = values.set(~is_day, None).cast(pl.Int64).cast(pl.String).str.to_datetime("%Y%m%d", strict=False)
        dates = _localize(days, timezone)
        units[YYYYMMDD] = int(dates.is_not_null().sum())
        values = values.set(dates.is_not_null(), None)
    has_dates |= bool(dates.is_not_null().any())
    low, high = _EXCEL_RANGE
    rest = values.drop_nulls()
    if rest.len() and not has_dates and bool(((rest >= low) & (rest <= high)).all()):
        seconds = ((values - _EXCEL_EPOCH) * 86_400).round().cast(pl.Int64)
        units[EXCEL_DAYS] = rest.len()
        parsed = _localize((seconds * 1_000_000).cast(pl.Datetime("us")), timezone)
        return dates.zip_with(dates.is_not_null(), parsed), dict(units)
    if has_dates or (rest.len() and bool((rest.abs() >= _EPOCH_SECONDS).any())):
        values = values.set((values >= 0) & (values < _EPOCH_SECONDS), None)
    frame = pl.DataFrame({"v": values.cast(pl.Float64)})
    size = pl.col("v").abs()
    unit = sum(((size >= limit).cast(pl.Int8) for limit in _LIMITS), start=pl.lit(0, dtype=pl.Int8))
    frame = frame.with_columns(
        unit.alias("unit"), pl.when(pl.col("v").is_finite() & (size < 1e20)).then(pl.col("v")).alias("v")
    ).with_columns((pl.col("v") / (1000.0 ** pl.col("unit").cast(pl.Float64))).floor().cast(pl.Int64).alias("s"))
    counts = frame.filter(pl.col("v").is_not_null()).group_by("unit").len().sort("unit").rows()
    units.update({UNITS[index]: number for index, number in counts})
    return dates.zip_with(dates.is_not_null(), frame["s"]).rename(values.name), dict(units)


def _is_day(values: pl.Series) -> pl.Series:
    """Return which numbers have the eight digits of a date, YYYYMMDD."""
    is_whole = (values >= 19_000_101) & (values <= 20_991_231) & (values == values.floor())
    digits = values.set(~is_whole.fill_null(value=False), None).cast(pl.Int64).cast(pl.String)
    return digits.str.contains(_DAY).fill_null(value=False)


def _parse_iso(cells: pl.Series, timezone: str) -> pl.Series:
    parts = pl.DataFrame({"cell": cells}).select(pl.col("cell").str.extract_groups(_ISO)).unnest("cell")
    day = [pl.col("y"), pl.col("m").str.zfill(2), pl.col("d").str.zfill(2)]
    time = [pl.col("H").fill_null("0").str.zfill(2), pl.col("M").fill_null("00"), pl.col("S").fill_null("00")]
    zone = pl.col("z").str.replace(":", "", literal=True)
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    minutes = zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    offset = sign * (zone.str.slice(1, 2).cast(pl.Int64, strict=False) * 3600 + minutes * 60)
    has_offset = zone.str.contains(r"^[+-]").fill_null(value=False)
    is_possible = ~has_offset | ((offset.abs() <= _MAX_OFFSET) & (minutes < 60))
    local = (pl.concat_str(day, separator="-") + " " + pl.concat_str(time, separator=":")).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"
    )
    frame = parts.select(
        local.alias("local"),
        pl.when(is_possible).then(pl.when(has_offset).then(offset).otherwise(0)).alias("offset"),
        pl.col("z").is_not_null().alias("zoned"),
    )
    utc = (frame["local"].dt.epoch("s").cast(pl.Int64) - frame["offset"]).rename("s")
    if timezone == "UTC":
        return utc
    return utc.zip_with(frame["zoned"], _localize(frame["local"], timezone))


def attribute_values(column: pl.Series, *, untyped: bool = False) -> list[object]:
    """Return the values of an attribute column; JSON lists and objects become lists and dicts.

    Args:
        column: (n,) any type.
        untyped: the texts come from a format without types: if all are numbers, or all `true` or `false`, they become
            numbers or booleans; codes with leading zeros stay text.
    """
    if (
        column.dtype.is_temporal()
        or column.dtype.is_decimal()
        or isinstance(column.dtype, pl.Categorical | pl.Enum)
        or column.dtype == pl.Binary
    ):
        column = text(column)
        return [_shorten_midnight(value) for value in column.to_list()]
    if column.dtype != pl.String:
        return column.to_list()
    cells, _ = without_null_words(column.str.strip_chars())
    cells = cells.set(cells == "", None) if cells.len() else cells
    present = cells.drop_nulls()
    if not present.len():
        return [None] * column.len()
    if not untyped:
        return [_parse_list(value) for value in cells.to_list()]
    if bool(present.str.contains(r"^-?(0|[1-9]\d{0,14})(\.\d+)?$").all()):
        numbers_ = cells.cast(pl.Float64)
        if bool((numbers_.drop_nulls() == numbers_.drop_nulls().floor()).all()) and not bool(
            present.str.contains(".", literal=True).any()
        ):
            return cells.cast(pl.Int64).to_list()
        return numbers_.to_list()
    if bool(present.str.to_lowercase().is_in(["true", "false"]).all()):
        return [None if value is None else value.lower() == "true" for value in cells.to_list()]
    return [_parse_list(value) for value in cells.to_list()]


def _parse_list(cell: str | None) -> object:
    if cell is None or not (cell.startswith(("[", "{")) and cell.endswith(("]", "}"))):
        return cell
    try:
        value = json.loads(cell, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, list | dict) else cell


def _shorten_midnight(cell: str | None) -> str | None:
    """Return the date of a time at midnight."""
    if cell is None:
        return None
    day, separator, time = cell.partition(" ")
    return day if separator and not time.strip("0:.") else cell
