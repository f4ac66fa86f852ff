"""Attributes of products and users between their two forms: one JSON text a row, or one column each.

In: JSON objects, or further columns of a shop's table. Out: canonical JSON (keys sorted, nothing empty), or columns.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import polars as pl

from recsys.data import parsing as parse
from recsys.data import schema

LOG = logging.getLogger(__name__)
MOST: Final = 200
"""Attributes that become columns at most; the rarest ones are left out, and said so."""


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def _read(cell: str | None) -> dict[str, Any] | None:
    """The object in a cell, None for no cell.

    Raises:
        ValueError: it is no JSON object, or holds characters that cannot be stored.
    """
    if cell is None:
        return None
    try:
        value = _DECODER.decode(cell)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _write(values: Mapping[str, Any]) -> str | None:
    kept = {str(name): value for name, value in values.items() if not _blank(value)}
    if not kept:
        return None
    out = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    out.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return out


def _blank(value: object) -> bool:
    return value is None or value == "" or value == [] or (isinstance(value, float) and not math.isfinite(value))


def canonicalize(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """JSON text of each row in canonical form, and where a row held something else: (n,) String, (n,) bool."""
    seen: dict[str, tuple[str | None, bool]] = {}
    out: list[str | None] = []
    bad: list[bool] = []
    for cell in parse.text(column).to_list():
        if cell is None:
            out.append(None)
            bad.append(False)
            continue
        found = seen.get(cell)
        if found is None:
            try:
                found = (_write(_read(cell) or {}), False)
            except ValueError:
                found = (None, True)
            seen[cell] = found
        out.append(found[0])
        bad.append(found[1])
    return pl.Series(column.name, out, dtype=pl.String), pl.Series("bad", bad, dtype=pl.Boolean)


def fold(frame: pl.DataFrame, names: Mapping[str, str], *, split: str | None = None) -> pl.Series:
    """Make one JSON column of several: `names` maps a column of `frame` to its attribute name.

    Args:
        frame: (n, c) rows.
        names: column to attribute.
        split: cells of text holding this mark become lists.
    """
    columns = []
    for name in names:
        column = frame[name]
        if (
            column.dtype.is_temporal()
            or column.dtype.is_decimal()
            or isinstance(column.dtype, pl.Categorical | pl.Enum)
        ):
            column = column.cast(pl.String)
        columns.append(column.to_list())
    texts: list[str | None] = []
    for row in zip(*columns, strict=True) if columns else ([],) * frame.height:
        values: dict[str, Any] = {}
        for attribute, value in zip(names.values(), row, strict=True):
            if split and isinstance(value, str) and split in value:
                values[attribute] = [part.strip() for part in value.split(split) if part.strip()]
            else:
                values[attribute] = value.strip() if isinstance(value, str) else value
        texts.append(_write(values))
    return pl.Series(schema.ATTRIBUTES, texts, dtype=pl.String)


def merge(first: pl.Series, second: pl.Series) -> pl.Series:
    """JSON of both columns; where a name stands in both, `first` holds. What is no JSON in `first` stays as it is."""
    out: list[str | None] = []
    for one, two in zip(parse.text(first).to_list(), second.to_list(), strict=True):
        if one is None or two is None:
            out.append(two if one is None else one)
            continue
        try:
            out.append(_write({**json.loads(two), **(_read(one) or {})}))
        except ValueError:
            out.append(one)
    return pl.Series(schema.ATTRIBUTES, out, dtype=pl.String)


def unfold(column: pl.Series) -> pl.DataFrame:
    """One column `attributes.<name>` for each name in the JSON texts, sorted by name: (n, a).

    A column whose values are all numbers is Float64, every other one text; lists are joined with " | ".
    """
    texts = column.cast(pl.String).alias("text").to_frame()
    different = texts.group_by("text", maintain_order=True).agg(pl.len())  # many products are described alike
    cells = [_read(cell) for cell in different["text"].to_list()]
    counts: Counter[str] = Counter()
    for cell, times in zip(cells, different["len"].to_list(), strict=True):
        for name in cell or ():
            counts[name] += times
    names = sorted(counts)
    if len(names) > MOST:
        names = sorted(sorted(names, key=lambda name: (-counts[name], name))[:MOST])
        LOG.warning("%d different attributes; only the %d commonest are used", len(counts), MOST)
    values = [_column(name, [None if cell is None else cell.get(name) for cell in cells]) for name in names]
    if different.height == column.len():
        return pl.DataFrame(values)
    places = texts.join(different.with_row_index("row"), "text", "left", nulls_equal=True, maintain_order="left")
    return pl.DataFrame([value.gather(places["row"]) for value in values])


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    held = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in held):
        return pl.Series(schema.ATTRIBUTE_PREFIX + name, values, dtype=pl.Float64, strict=False)
    return pl.Series(schema.ATTRIBUTE_PREFIX + name, [_shown(value) for value in values], dtype=pl.String)


def _shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return " | ".join(_shown(part) or "" for part in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
