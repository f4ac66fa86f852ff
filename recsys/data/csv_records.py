"""Parse a delimited text file so that a broken record loses its first line only.

In: the lines after the header. Out: line number and fields of each record, or the reason why it cannot be read.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final

Record = tuple[int, list[str] | None, str | None, str | None]
"""Line number; fields, or None with the reason and the line itself."""

_CHUNK: Final = 500


def encodable(text: str) -> bool:
    """Return whether the text can be stored as UTF-8, which lone surrogates cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def records(lines: Iterable[str], delimiter: str, *, width: int) -> Iterator[Record]:
    """Split lines into records of `width` fields; blank lines are skipped.

    A missing closing quote, which would swallow the lines up to the next quote, loses one row only: after a broken
    record, reading continues with the line after its first one.

    Args:
        lines: lines with their line ends; the first one is line 2 of the file.
        delimiter: one character.
        width: number of fields in the header.
    """
    source = iter(lines)
    line_number = 2
    while chunk := list(islice(source, _CHUNK)):
        rows = _parse_single_lines(chunk, delimiter, width)
        if rows is None:
            line_number = yield from _parse_records(chunk, source, line_number, delimiter=delimiter, width=width)
        else:
            for fields in rows:
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


def _parse_records(
    chunk: list[str], source: Iterator[str], line_number: int, *, delimiter: str, width: int
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
            blank = reason is None and not "".join(consumed).strip()
            if reason is None and not blank and len(fields) != width:
                reason = f"it has {len(fields)} fields where the first line has {width}"
            if reason is None and not all(map(encodable, consumed)):
                reason = "it is not UTF-8"
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
