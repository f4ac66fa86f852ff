"""Parse a delimited text file so that a broken record loses its first line only.

In: the lines after the header. Out: line number and fields of each record, or the reason why it cannot be read.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final

from recsys.data.formats.rows import Record, encodable

_CHUNK: Final = 500
csv.field_size_limit(2_000_000)  # characters; a description with an embedded image is long, an unclosed quote is longer

_NULL_FIELD: Final = re.compile(r"(?<![^;,\t|])\\N(?=$|[;,\t|\r\n])")
r"""`\N`, a missing value of MySQL, as a whole field."""


def records(
    lines: Iterable[str], delimiter: str, *, width: int, first_line: int = 2, notes: Counter[str] | None = None
) -> Iterator[Record]:
    """Split lines into records of `width` fields; blank lines, and lines of delimiters only, are skipped.

    A missing closing quote, which would swallow the lines up to the next quote, loses one row only: after a broken
    record, reading continues with the line after its first one. A record that is broken by the standard but complete
    with backslashes as escapes, as MySQL and Spark write them, is read so.

    Args:
        lines: lines with their line ends.
        delimiter: one character.
        width: number of fields in the header.
        first_line: number of the first line in the file.
        notes: counts remarks.
    """
    source = iter(lines)
    line_number = first_line
    notes = Counter() if notes is None else notes
    while chunk := list(islice(source, _CHUNK)):
        rows = _parse_single_lines(chunk, delimiter, width)
        if rows is None:
            line_number = yield from _parse_records(
                chunk, source, line_number, delimiter=delimiter, width=width, notes=notes
            )
        else:
            for fields in rows:
                if any(field.strip() for field in fields):
                    yield line_number, fields, None, None
                line_number += 1


def _parse_single_lines(chunk: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """Return the fields of each line if every line is one complete record, else None."""
    try:
        rows = list(csv.reader(chunk, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    complete = len(rows) == len(chunk) and all(len(fields) == width for fields in rows)
    return rows if complete and encodable("".join(chunk)) else None


def _fit(fields: list[str], width: int) -> list[str]:
    """Remove empty fields beyond the header, which trailing delimiters produce."""
    return fields[:width] if len(fields) > width and not any(fields[width:]) else fields


def _parse_escaped(line: str, delimiter: str, width: int) -> list[str] | None:
    r"""Parse a line with backslashes as escapes (`\"`); None if it is no complete record. `\N` is an empty field."""
    if "\\" not in line:
        return None
    try:
        rows = list(csv.reader([_NULL_FIELD.sub("", line)], delimiter=delimiter, escapechar="\\", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 and len(rows[0]) == width and encodable(line) else None


def _parse_records(
    chunk: list[str], source: Iterator[str], line_number: int, *, delimiter: str, width: int, notes: Counter[str]
) -> Generator[Record, None, int]:
    """Parse record by record; the last may continue in `source`. Returns the number of the next line."""
    pending = chunk[::-1]  # next line last
    consumed: list[str] = []  # lines of the current record

    def feed() -> Iterator[str]:
        while True:
            line = pending.pop() if pending else next(source, None)
            if line is None:
                return
            consumed.append(line)
            yield line

    while pending:
        reader = csv.reader(feed(), delimiter=delimiter, strict=True)
        while pending:
            reason = None
            fields: list[str] = []
            try:
                fields = next(reader)
            except csv.Error as error:
                reason = f"a quote is not closed or stands in the wrong place ({error})"
            fields = _fit(fields, width)
            blank = reason is None and not any(field.strip() for field in fields)
            if reason is None and not blank and len(fields) != width:
                reason = f"it has {len(fields)} fields where the first line has {width}"
            if reason is None and not all(map(encodable, consumed)):
                reason = "it is not UTF-8; save the file as UTF-8, or set [data] encoding"
            escaped = _parse_escaped(consumed[0], delimiter, width) if reason is not None else None
            if escaped is not None:
                notes["lines have backslashes as escapes"] += 1
                yield line_number, escaped, None, None
                pending.extend(reversed(consumed[1:]))
                consumed.clear()
                line_number += 1
                break
            if reason is not None:
                yield line_number, None, reason, consumed[0]
                pending.extend(reversed(consumed[1:]))
                consumed.clear()
                line_number += 1
                break  # this reader is in the middle of a quote
            if not blank:
                yield line_number, fields, None, None
            line_number += len(consumed)
            consumed.clear()
    return line_number
