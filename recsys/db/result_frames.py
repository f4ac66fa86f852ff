"""From a driver's rows to columns: each column in the type that holds all its values and loses none.

In: tuples of Python values as drivers give them. Out: polars frames.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl


def frame(names: Sequence[str], rows: Sequence[Sequence[Any]], exact: Collection[str] = ()) -> pl.DataFrame:
    """Columns of rows; their types follow the values, see `recsys.db.engine.stream`.

    Args:
        names: n column names.
        rows: r tuples of n values each.
        exact: columns that become text (or bytes, where one value is), digit by digit.
    """
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pl.DataFrame(
        [_series(name, column, exact=name in exact) for name, column in zip(names, columns, strict=True)]
    )


def _series(name: str, values: Sequence[Any], *, exact: bool = False) -> pl.Series:
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pl.Series(name, [None] * len(values), dtype=pl.String if exact else pl.Null)
    if len(kinds) == 1 and kinds <= {str, bytes}:
        return pl.Series(name, values)
    if exact:
        return _texts(name, values, kinds)
    if kinds <= {int}:
        there = [value for value in values if value is not None] if None in values else values
        fits = -(2**63) <= min(there) and max(there) < 2**63
        return pl.Series(name, values, dtype=pl.Int64) if fits else _texts(name, values, kinds)
    if kinds == {float}:
        return pl.Series(name, values, dtype=pl.Float64)
    if kinds <= {int, float, bool, Decimal} and kinds != {bool}:
        if Decimal in kinds and all(value is None or value == int(value) for value in values if _finite(value)):
            return _series(name, [int(value) if value is not None and _finite(value) else None for value in values])
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    if kinds == {datetime}:
        return _moments(name, values)
    if len(kinds) == 1 and kinds <= {bool, date}:
        return pl.Series(name, values)
    return _texts(name, values, kinds)


def _moments(name: str, values: Sequence[datetime | None]) -> pl.Series:
    zones = {value.tzinfo for value in values if value is not None}
    if len(zones) == 1 and str(*zones) == "UTC":  # five times as fast as values that carry their zone
        plain = [None if value is None else value.replace(tzinfo=None) for value in values]
        return pl.Series(name, plain, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.Series(name, values).dt.cast_time_unit("us")


def _finite(value: Any) -> bool:
    return not isinstance(value, Decimal) or value.is_finite()


def _texts(name: str, values: Sequence[Any], kinds: Collection[type]) -> pl.Series:
    """Text of each value; where one is bytes all are, for whoever knows what they mean."""
    if bytes not in kinds:
        return pl.Series(name, [_text(value) for value in values], dtype=pl.String)
    told = [value if value is None or isinstance(value, bytes) else _encoded(value) for value in values]
    return pl.Series(name, told, dtype=pl.Binary)


def _encoded(value: Any) -> bytes:
    return (_text(value) or "").encode("utf-8", "surrogatepass")


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, Decimal) and value.is_finite():
        digits = f"{value:f}"  # never normalize(): that rounds to 28 digits
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
