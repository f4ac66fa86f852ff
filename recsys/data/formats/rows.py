"""Marks of raw rows: their position in the source, and why a row cannot be parsed or is filtered.

In: records of a file. Out: raw frames with the columns `MARKS` beside those of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

ROW: Final = "__row__"
"""Column of a raw frame: line of a text file (the header is line 1), else the row number, starting with 1."""
BAD: Final = "__bad__"
"""Column of a raw frame: the reason why the row could not be parsed, else null."""
RAW: Final = "__raw__"
"""Column of a raw frame: the line that could not be parsed, else null."""
SKIP: Final = "__skip__"
"""Column of a raw frame: the code under which a preset filters the row out, else null."""
UNTYPED: Final = "__untyped__"
"""Column of a raw frame: present if all cells are text because the format has no types, as in csv."""
KEYS: Final = "__keys__"
"""Column of a canonical frame: the attributes that the source has columns for, joined by NUL; absent if the source has
all attributes, as a JSON column does."""
MARKS: Final = (ROW, BAD, RAW, SKIP, UNTYPED, KEYS)

Record = tuple[int, list[str] | None, str | None, str | None]
"""Line number; fields, or None with the reason and the line itself."""


def encodable(text: str) -> bool:
    """Return whether the text can be stored as UTF-8, which lone surrogates cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def add_row_numbers(frame: pl.DataFrame, *, start: int) -> pl.DataFrame:
    """Add the columns ROW, BAD and RAW to rows that were read without errors."""
    rows = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(ROW)
    null = pl.lit(None, dtype=pl.String)
    return frame.with_columns(rows, null.alias(BAD), null.alias(RAW))


def mark_series(numbers: Sequence[int], reasons: Sequence[str | None], lines: Sequence[str | None]) -> list[pl.Series]:
    """Return the columns ROW, BAD and RAW."""
    return [
        pl.Series(ROW, numbers, dtype=pl.Int64),
        pl.Series(BAD, reasons, dtype=pl.String),
        pl.Series(RAW, [_shorten_line(line) for line in lines], dtype=pl.String),
    ]


def _shorten_line(line: str | None) -> str | None:
    return None if line is None else line.rstrip("\r\n")[:2000].encode("utf-8", "replace").decode()
