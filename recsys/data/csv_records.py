"""Records of a delimited text file, where a broken one costs its first line and nothing more.

In: the lines after the header. Out: for each record its line number and fields, or why there are none.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final

Record = tuple[int, list[str] | None, str | None, str | None]
"""Line number, fields or None, why there are none, the line itself."""

_CHUNK: Final = 500


def encodable(text: str) -> bool:
    """Can the text be stored as UTF-8: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def records(lines: Iterable[str], delimiter: str, *, width: int) -> Iterator[Record]:
    """Split lines into records of `width` fields; blank lines are none.

    A forgotten closing quote, which swallows lines up to the next quote, loses one row and not the rest: after a
    broken record, reading continues with the line after its first one.

    Args:
        lines: with their line ends; the first one is line 2 of the file.
        delimiter: one character.
        width: number of fields in the header.
    """
    source = iter(lines)
    at = 2
    while chunk := list(islice(source, _CHUNK)):
        plain = _plain(chunk, delimiter, width)
        if plain is None:
            at = yield from _careful(chunk, source, at, delimiter=delimiter, width=width)
        else:
            for fields in plain:
                yield at, fields, None, None
                at += 1


def _plain(chunk: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """The fields of each line, where each line is one whole record; else None."""
    try:
        found = list(csv.reader(chunk, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    whole = len(found) == len(chunk) and all(len(fields) == width for fields in found)
    return found if whole and encodable("".join(chunk)) else None


def _careful(
    chunk: list[str], source: Iterator[str], at: int, *, delimiter: str, width: int
) -> Generator[Record, None, int]:
    """Record by record until the chunk is used up; its last may go on in `source`. Returns the next line's number."""
    pending = chunk[::-1]  # next line last
    read: list[str] = []  # lines of the record being read

    def feed() -> Iterator[str]:
        while True:
            line = pending.pop() if pending else next(source, None)
            if line is None:
                return
            read.append(line)
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
            blank = reason is None and not "".join(read).strip()
            if reason is None and not blank and len(fields) != width:
                reason = f"it has {len(fields)} fields where the first line has {width}"
            if reason is None and not all(map(encodable, read)):
                reason = "it is not UTF-8"
            if reason is not None:
                yield at, None, reason, read[0]
                pending.extend(reversed(read[1:]))
                read.clear()
                at += 1
                break  # this reader is in the middle of a quote
            if not blank:
                yield at, fields, None, None
            at += len(read)
            read.clear()
    return at
