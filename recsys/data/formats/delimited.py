"""Read delimited text files (csv, tsv), also as Excel, pandas, Spark and MySQL write them.

In: a file. Out: its column names; frames of text columns with the line number of each row.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TextIO

import polars as pl

from recsys.data.formats.csv_records import records
from recsys.data.formats.input_file import InputFile
from recsys.data.formats.rows import UNTYPED, Record, encodable, mark_series
from recsys.errors import UsageError

_DELIMITERS: Final = ",;\t|"
_SEPARATOR_LINE: Final = re.compile(r'^"?sep=(.)"?\s*$', re.IGNORECASE)
_MAX_HEADER_LINES: Final = 20
_MAX_BLANK_LINES: Final = 1000
_QUOTED: Final = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class Header:
    """First record of a file.

    Attributes:
        names: column names; unnamed columns have the empty name.
        delimiter: one character.
        lines: lines up to and with the header.
    """

    names: list[str]
    delimiter: str
    lines: int


def columns(file: InputFile) -> list[str]:
    """Return the column names; unnamed columns are left out.

    Raises:
        UsageError: the file has no header, or a name twice.
    """
    with file.open_text() as stream:
        return [name for name in _read_header(file, stream).names if name]


def frames(file: InputFile, *, batch: int, notes: Counter[str]) -> Iterator[pl.DataFrame]:
    """Yield frames of at most `batch` rows, at least one; count remarks in `notes`."""
    with file.open_text() as stream:
        header = _read_header(file, stream)
        rows = records(stream, header.delimiter, width=len(header.names), first_line=header.lines + 1, notes=notes)
        is_empty = True
        while chunk := list(islice(rows, batch)):
            yield _to_frame(chunk, header.names, notes)
            is_empty = False
        if is_empty:
            yield _to_frame([], header.names, notes)


def _read_header(file: InputFile, stream: TextIO) -> Header:
    """Read the first record: after blank lines and a line `sep=;`, possibly with line breaks inside quotes."""
    lines, delimiter = 0, None
    line = ""
    for line in islice(stream, _MAX_BLANK_LINES):
        lines += 1
        line = line.lstrip("\ufeff")
        separator = _SEPARATOR_LINE.match(line)
        if separator and delimiter is None:
            delimiter = separator[1]
        elif line.strip().strip(_DELIMITERS).strip():
            break
    else:
        raise UsageError(f"{file} is empty; its first line must name the columns")
    while line.count('"') % 2 and lines < _MAX_BLANK_LINES + _MAX_HEADER_LINES:
        further = stream.readline()
        if not further:
            break
        line, lines = line + further, lines + 1
    if delimiter is None:
        unquoted = _QUOTED.sub("", line)
        delimiter = max(_DELIMITERS, key=unquoted.count)
        if not unquoted.count(delimiter):
            delimiter = max(_DELIMITERS, key=line.count) if line.count('"') % 2 else ","
    names = [" ".join(name.split()) for name in next(csv.reader([line], delimiter=delimiter))]
    repeated = sorted(name for name, number in Counter(names).items() if name and number > 1)
    if repeated:
        raise UsageError(
            f"{file}: column {repeated[0]!r} stands twice in the first line; rename one, "
            "or put a line with the column names above the data"
        )
    if not encodable(line):
        raise UsageError(f"{file}: the first line is not UTF-8; save the file as UTF-8, or set [data] encoding")
    if "\x00" in line:
        raise UsageError(f"{file} is no text file of a known encoding; save it as UTF-8, or set [data] encoding")
    return Header(names, delimiter, lines)


def _to_frame(chunk: Sequence[Record], names: Sequence[str], notes: Counter[str]) -> pl.DataFrame:
    nulls = [None] * len(names)
    values = list(zip(*(fields if fields is not None else nulls for _, fields, _, _ in chunk), strict=True))
    data = []
    for index, name in enumerate(names):
        cells = values[index] if values else []
        if name:
            data.append(pl.Series(name, cells, dtype=pl.String))
        elif any(cells):
            notes[f"column {index + 1} has no name and was left out"] += sum(map(bool, cells))
    data += mark_series([row[0] for row in chunk], [row[2] for row in chunk], [row[3] for row in chunk])
    data.append(pl.repeat(value=True, n=len(chunk), dtype=pl.Boolean, eager=True).alias(UNTYPED))
    return pl.DataFrame(data)
