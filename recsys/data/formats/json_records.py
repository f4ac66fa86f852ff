"""Read JSON Lines, and JSON arrays of objects.

In: a file. Out: its keys as column names; frames with the line or element number of each row. Numbers and booleans keep
their types, lists and objects become JSON text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import Any, Final, TextIO

import polars as pl

from recsys.data.formats.input_file import InputFile
from recsys.data.formats.rows import encodable, mark_series
from recsys.errors import UsageError

_MAX_KEYS: Final = 2_000
"""Keys that become columns; of more, the rarest are left out, so that a new key in each line takes linear time."""
_MAX_INTEGER: Final = 2**63 - 1
_Row = tuple[int, dict[str, Any] | str, str]
"""Number, object or the reason why it cannot be parsed, the line."""


def columns(file: InputFile) -> list[str]:
    """Return the keys of the first hundred objects."""
    with file.open_text() as stream:
        names: dict[str, None] = {}
        for _, value, _ in islice(_iterate(file, stream), 100):
            if isinstance(value, dict):
                names.update(dict.fromkeys(value))
        return list(names)


def frames(file: InputFile, *, batch: int, notes: Counter[str]) -> Iterator[pl.DataFrame]:
    """Yield frames of at most `batch` rows, at least one; count remarks in `notes`."""
    with file.open_text() as stream:
        rows = _iterate(file, stream)
        is_empty = True
        while chunk := list(islice(rows, batch)):
            yield _to_frame(chunk, notes)
            is_empty = False
        if is_empty:
            yield _to_frame([], notes)


def _iterate(file: InputFile, stream: TextIO) -> Iterator[_Row]:
    """Iterate over the objects of JSON Lines, of an array, or of the only list in an object."""
    first = ""
    skipped = 0
    for line in stream:
        first = line.lstrip("\ufeff")
        if first.strip():
            break
        skipped += 1
    if not first.strip():
        return iter(())
    if first.lstrip().startswith("[") or not _is_complete(first):
        return _iterate_array(file, chain([first], stream), skipped)
    lines = zip(count(skipped + 1), chain([first], stream))
    return ((number, _parse_object(line), line) for number, line in lines if line.strip())


def _is_complete(line: str) -> bool:
    """Return whether a line is a JSON value of its own; a broken line of JSON Lines counts as one."""
    text = line.strip()
    return not text.startswith("{") or text.endswith("}")


def _iterate_array(file: InputFile, lines: Iterator[str], skipped: int) -> Iterator[_Row]:
    text = "".join(lines)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        rows = ((number, line) for number, line in enumerate(text.splitlines(), skipped + 1) if line.strip())
        parsed = [(number, _parse_object(line), line) for number, line in rows]
        if sum(isinstance(value, dict) for _, value, _ in parsed) * 2 < len(parsed):
            raise UsageError(
                f"{file} is neither JSON Lines nor an array of objects ({str(error)[:80]}); write one object a line"
            ) from error
        return iter(parsed)
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list) and value]
        document = lists[0] if len(lists) == 1 and all(isinstance(entry, dict) for entry in lists[0]) else [document]
    return (
        (number, entry if isinstance(entry, dict) else "it is not a JSON object", json.dumps(entry)[:2000])
        for number, entry in enumerate(document, 1)
    )


def _parse_object(line: str) -> dict[str, Any] | str:
    """Return the JSON object in a line, or the reason why it cannot be parsed."""
    if not encodable(line):
        return "it is not UTF-8; save the file as UTF-8, or set [data] encoding"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({str(error)[:60]})"
    return value if isinstance(value, dict) else "it is not a JSON object"


def _to_frame(chunk: Sequence[_Row], notes: Counter[str]) -> pl.DataFrame:
    names = _select_keys(chunk, notes)
    values: dict[str, list[Any]] = {name: [None] * len(chunk) for name in names}
    reasons: list[str | None] = [None] * len(chunk)
    for index, (_, value, _) in enumerate(chunk):
        if isinstance(value, str):
            reasons[index] = value
            continue
        for name, cell in value.items():
            if name in values:
                values[name][index] = cell
    data = []
    for name, cells in values.items():
        column, broken = _to_series(name, cells)
        data.append(column)
        for index in broken:  # a lone surrogate written as an escape cannot be stored
            reasons[index] = reasons[index] or "it holds a broken character (a lone surrogate)"
    lines = [line if reason is not None else None for (_, _, line), reason in zip(chunk, reasons, strict=True)]
    return pl.DataFrame([*data, *mark_series([row[0] for row in chunk], reasons, lines)])


def _select_keys(chunk: Sequence[_Row], notes: Counter[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for _, value, _ in chunk:
        if isinstance(value, dict):
            counts.update(value.keys())
    names = [name for name in counts if encodable(name)]
    if len(names) > _MAX_KEYS:
        notes[f"more than {_MAX_KEYS:,} different keys; the rarest were left out"] += len(names) - _MAX_KEYS
        kept = {name for name, _ in counts.most_common(_MAX_KEYS)}
        names = [name for name in names if name in kept]
    return names


def _to_series(name: str, cells: list[Any]) -> tuple[pl.Series, list[int]]:
    """Return a column of booleans, numbers or text, and the positions of texts that cannot be stored."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return pl.Series(name, cells, dtype=pl.Boolean), []
    if kinds == {int} and all(cell is None or abs(cell) <= _MAX_INTEGER for cell in cells):
        return pl.Series(name, cells, dtype=pl.Int64), []
    if kinds and kinds <= {int, float} and all(cell is None or abs(cell) < 2**53 or cell != cell for cell in cells):
        return pl.Series(name, [None if cell is None else float(cell) for cell in cells], dtype=pl.Float64), []
    texts = [cell if cell is None or isinstance(cell, str) else json.dumps(cell, ensure_ascii=False) for cell in cells]
    broken = [index for index, text in enumerate(texts) if text is not None and not encodable(text)]
    for index in broken:
        texts[index] = None
    return pl.Series(name, texts, dtype=pl.String), broken
