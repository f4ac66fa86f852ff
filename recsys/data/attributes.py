"""Convert attributes of products and users between one JSON column and one column for each attribute.

In: JSON objects, or further columns of a shop's table. Out: canonical JSON (sorted keys, no empty values), or columns.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from recsys.data import parsing as parse
from recsys.data import schema
from recsys.data.value_words import EMPTY_JSON

LOG = logging.getLogger(__name__)
MAX_ATTRIBUTES: Final = 200
"""Maximum number of attribute columns; the rarest attributes are dropped with a warning."""


_MAX_DEPTH: Final = 64
"""Levels of nested JSON; deeper values cannot be processed by every database."""
_DECODER: Final = json.JSONDecoder(parse_constant=lambda _: None)


def _parse(cell: str | None) -> dict[str, Any] | None:
    """Parse the JSON object of a cell; None for an empty cell, and for `null` and `[]`.

    A list of objects with `name` and `value`, as some shop systems write attributes, is an object too.

    Raises:
        ValueError: the cell is no JSON object, or has characters that cannot be stored.
    """
    if cell is None or cell.strip().lower() in EMPTY_JSON:
        return None
    try:
        value = _DECODER.decode(cell)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(value, list) and all(
        isinstance(entry, dict) and {"name", "value"} <= entry.keys() for entry in value
    ):
        value = {str(entry["name"]): entry["value"] for entry in value}
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if _depth(value) > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    return value


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        depth += 1
    return depth


def _dump(values: Mapping[str, Any]) -> str | None:
    present = {str(name): value for name, value in values.items() if not _is_empty(value)}
    if not present:
        return None
    text = json.dumps(present, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return text


def _is_empty(value: object) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, float) and not math.isfinite(value))


def canonicalize(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return canonical JSON of each row, and which rows are no JSON object: (n,) String, (n,) bool."""
    cache: dict[str, tuple[str | None, bool]] = {}
    texts: list[str | None] = []
    is_bad: list[bool] = []
    for cell in parse.text(column).to_list():
        if cell is None:
            texts.append(None)
            is_bad.append(False)
            continue
        result = cache.get(cell)
        if result is None:
            try:
                result = (_dump(_parse(cell) or {}), False)
            except ValueError:
                result = (None, True)
            cache[cell] = result
        texts.append(result[0])
        is_bad.append(result[1])
    return pl.Series(column.name, texts, dtype=pl.String), pl.Series("bad", is_bad, dtype=pl.Boolean)


def fold(
    frame: pl.DataFrame, names: Mapping[str, str], *, split: str | None = None, untyped: bool = False
) -> pl.Series:
    """Combine columns into one JSON column.

    Args:
        frame: (n, c) rows.
        names: column of `frame` to attribute name.
        split: separator; text cells that contain it become lists.
        untyped: all cells are text, so that columns of numbers and of booleans have to be converted.
    """
    columns = [parse.attribute_values(frame[name], untyped=untyped) for name in names]
    texts: list[str | None] = []
    for row in zip(*columns, strict=True) if columns else ([],) * frame.height:
        values: dict[str, Any] = {}
        for attribute, value in zip(names.values(), row, strict=True):
            if split and isinstance(value, str) and split in value:
                values[attribute] = [part.strip() for part in value.split(split) if part.strip()]
            else:
                values[attribute] = value
        texts.append(_dump(values))
    return pl.Series(schema.ATTRIBUTES, texts, dtype=pl.String)


def merge(first: pl.Series, second: pl.Series) -> pl.Series:
    """Merge two JSON columns; values of `first` win, and cells of `first` that are no JSON are kept."""
    texts: list[str | None] = []
    for first_cell, second_cell in zip(parse.text(first).to_list(), second.to_list(), strict=True):
        if first_cell is None or second_cell is None:
            texts.append(second_cell if first_cell is None else first_cell)
            continue
        try:
            texts.append(_dump({**json.loads(second_cell), **(_parse(first_cell) or {})}))
        except ValueError:
            texts.append(first_cell)
    return pl.Series(schema.ATTRIBUTES, texts, dtype=pl.String)


def unfold(column: pl.Series) -> pl.DataFrame:
    """Expand a JSON column into one column `attributes.<name>` for each name, sorted by name: (n, a).

    A column of numbers is Float64, every other one text; lists are joined with " | ".
    """
    texts = column.cast(pl.String).alias("text").to_frame()
    distinct = texts.group_by("text", maintain_order=True).agg(pl.len())  # many products have equal attributes
    cells = [_parse(cell) for cell in distinct["text"].to_list()]
    counts: Counter[str] = Counter()
    for cell, times in zip(cells, distinct["len"].to_list(), strict=True):
        for name in cell or ():
            counts[name] += times
    names = sorted(counts)
    if len(names) > MAX_ATTRIBUTES:
        names = sorted(sorted(names, key=lambda name: (-counts[name], name))[:MAX_ATTRIBUTES])
        LOG.warning("%d different attributes; only the %d commonest are used", len(counts), MAX_ATTRIBUTES)
    values = [_to_series(name, [None if cell is None else cell.get(name) for cell in cells]) for name in names]
    if distinct.height == column.len():
        return pl.DataFrame(values)
    rows = texts.join(distinct.with_row_index("row"), "text", "left", nulls_equal=True, maintain_order="left")
    return pl.DataFrame([value.gather(rows["row"]) for value in values])


def _to_series(name: str, values: Sequence[Any]) -> pl.Series:
    present = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return pl.Series(schema.ATTRIBUTE_PREFIX + name, values, dtype=pl.Float64, strict=False)
    return pl.Series(schema.ATTRIBUTE_PREFIX + name, [_to_text(value) for value in values], dtype=pl.String)


def _to_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return " | ".join(_to_text(part) or "" for part in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
