"""Convert result rows of a driver to frames; each column gets a type that represents all its values.

In: tuples of Python values as drivers return them. Out: polars frames.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl


def rows_to_frame(
    names: Sequence[str], rows: Sequence[Sequence[Any]], exact_columns: Collection[str] = ()
) -> pl.DataFrame:
    """Convert rows to a frame; column types follow the values, see `recsys.db.engine.stream`.

    Args:
        names: n column names.
        rows: r tuples of n values each.
        exact_columns: columns that become text (or bytes, if any value is bytes), digit by digit.
    """
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pl.DataFrame(
        [_to_series(name, column, exact=name in exact_columns) for name, column in zip(names, columns, strict=True)]
    )


def _to_series(name: str, values: Sequence[Any], *, exact: bool = False) -> pl.Series:
    types = set(map(type, values)) - {type(None)}
    if not types:
        return pl.Series(name, [None] * len(values), dtype=pl.String if exact else pl.Null)
    if len(types) == 1 and types <= {str, bytes}:
        return pl.Series(name, values)
    if exact:
        return _to_texts(name, values, types)
    if types <= {int}:
        present = [value for value in values if value is not None] if None in values else values
        fits_int64 = -(2**63) <= min(present) and max(present) < 2**63
        return pl.Series(name, values, dtype=pl.Int64) if fits_int64 else _to_texts(name, values, types)
    if types == {float}:
        return pl.Series(name, values, dtype=pl.Float64)
    if types <= {int, float, bool, Decimal} and types != {bool}:
        if Decimal in types and all(value is None or value == int(value) for value in values if _is_finite(value)):
            return _to_series(
                name, [int(value) if value is not None and _is_finite(value) else None for value in values]
            )
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    if types == {datetime}:
        return _to_datetimes(name, values)
    if len(types) == 1 and types <= {bool, date}:
        return pl.Series(name, values)
    return _to_texts(name, values, types)


def _to_datetimes(name: str, values: Sequence[datetime | None]) -> pl.Series:
    zones = {value.tzinfo for value in values if value is not None}
    if len(zones) == 1 and str(*zones) == "UTC":  # five times as fast as values with a time zone
        naive = [None if value is None else value.replace(tzinfo=None) for value in values]
        return pl.Series(name, naive, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.Series(name, values).dt.cast_time_unit("us")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Decimal) or value.is_finite()


def _to_texts(name: str, values: Sequence[Any], types: Collection[type]) -> pl.Series:
    """Convert each value to text; if any value is bytes, convert all to bytes, which the caller decodes."""
    if bytes not in types:
        return pl.Series(name, [_to_text(value) for value in values], dtype=pl.String)
    encoded = [value if value is None or isinstance(value, bytes) else _to_bytes(value) for value in values]
    return pl.Series(name, encoded, dtype=pl.Binary)


def _to_bytes(value: Any) -> bytes:
    return (_to_text(value) or "").encode("utf-8", "surrogatepass")


def _to_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, Decimal) and value.is_finite():
        digits = f"{value:f}"  # not normalize(): it rounds to 28 digits
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
