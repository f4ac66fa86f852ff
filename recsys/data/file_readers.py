"""Files of a shop as frames, line by line accounted for: csv, tsv, jsonl and parquet, the text ones also as .gz.

In: a path. Out: frames in batches; text files give text columns only, and each row knows its line.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, TextIO

import polars as pl

from recsys.data import csv_records as delimited
from recsys.data.csv_records import encodable
from recsys.errors import UsageError

ROW: Final = "__row__"
"""Column of a raw frame: line of a text file (the header is line 1), else the row counted from 1."""
BAD: Final = "__bad__"
"""Column of a raw frame: why the row could not be read at all; null = it could."""
RAW: Final = "__raw__"
"""Column of a raw frame: the unreadable line itself."""
SKIP: Final = "__skip__"
"""Column of a raw frame: the code under which a preset leaves the row out on purpose; null = it stays."""
MARKS: Final = (ROW, BAD, RAW, SKIP)

BATCH: Final = 100_000
_DELIMITED: Final = {".csv", ".tsv", ".txt"}
_JSON_LINES: Final = {".jsonl", ".ndjson", ".json"}
_PARQUET: Final = {".parquet", ".pq"}


def detect_format(path: Path) -> str | None:
    """How a file is read, by its name: `csv`, `jsonl`, `parquet`, or None."""
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    suffix = suffix.lower()
    if suffix in _DELIMITED:
        return "csv"
    if suffix in _JSON_LINES:
        return "jsonl"
    return "parquet" if suffix in _PARQUET and path.suffix.lower() != ".gz" else None


def columns(path: Path) -> list[str]:
    """Names of a file's columns; of a jsonl file, the keys of its first hundred readable lines.

    Raises:
        UsageError: the file is missing, of an unknown kind, or not what its name says.
    """
    how = _checked_kind(path)
    if how == "parquet":
        return [str(name) for name in _parquet(path).schema_arrow.names]
    with _opened(path) as stream:
        if how == "csv":
            return _header(path, stream)[0]
        names: dict[str, None] = {}
        for line in islice(stream, 100):
            value = _object(line)
            if isinstance(value, dict):
                names.update(dict.fromkeys(value))
        return list(names)


def frames(path: Path, *, batch: int = BATCH) -> Iterator[pl.DataFrame]:
    """Read a file in batches of rows, each with the columns ROW, BAD and RAW beside its own.

    Raises:
        UsageError: as for `columns`.
    """
    how = _checked_kind(path)
    if how == "parquet":
        return _parquet_frames(path, batch)
    return _csv_frames(path, batch) if how == "csv" else _jsonl_frames(path, batch)


def _checked_kind(path: Path) -> str:
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    how = detect_format(path)
    if how is None:
        raise UsageError(
            f"{path}: files of this kind are not read; give .csv, .tsv, .jsonl (or these as .gz) or .parquet"
        )
    return how


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open as text; bytes that are not UTF-8 survive as lone surrogates, so that only their line is lost."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                yield stream
        else:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({error}); export it again") from error


def _parquet(path: Path) -> Any:  # pyarrow carries no types
    import pyarrow.parquet as pq

    with _readable(path):
        return pq.ParquetFile(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} is not a readable parquet file ({reason}); export it again") from error


def _parquet_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    file = _parquet(path)
    start = 1
    with _readable(path):
        for part in file.iter_batches(batch_size=batch):
            frame = pl.DataFrame(part)
            yield add_row_numbers(frame, start=start)
            start += frame.height
    if start == 1:
        yield add_row_numbers(pl.DataFrame(file.schema_arrow.empty_table()), start=1)


def add_row_numbers(frame: pl.DataFrame, *, start: int) -> pl.DataFrame:
    """Add ROW, BAD and RAW to rows that were read without trouble."""
    rows = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(ROW)
    empty = pl.lit(None, dtype=pl.String)
    return frame.with_columns(rows, empty.alias(BAD), empty.alias(RAW))


def _header(path: Path, stream: TextIO) -> tuple[list[str], str]:
    """First line of a delimited file as names, and its delimiter: the commonest of `,` `;` tab `|` in it."""
    line = stream.readline()
    if not line.strip():
        raise UsageError(f"{path} is empty; its first line must name the columns")
    delimiter = max(",;\t|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: column {twice[0]!r} stands twice in the first line; rename one")
    if not encodable(line):
        raise UsageError(f"{path}: the first line is not UTF-8; save the file as UTF-8")
    return names, delimiter


def _csv_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    with _opened(path) as stream:
        names, delimiter = _header(path, stream)
        records = delimited.records(stream, delimiter, width=len(names))
        given = False
        while part := list(islice(records, batch)):
            yield _frame(part, names)
            given = True
        if not given:
            yield _frame([], names)


def _clean(line: str | None) -> str | None:
    return None if line is None else line.rstrip("\r\n")[:2000].encode("utf-8", "replace").decode()


def _frame(records: Sequence[delimited.Record], names: Sequence[str]) -> pl.DataFrame:
    empty = [None] * len(names)
    values = list(zip(*(fields if fields is not None else empty for _, fields, _, _ in records), strict=True))
    data: dict[str, pl.Series] = {
        name: pl.Series(name, values[place] if values else [], dtype=pl.String) for place, name in enumerate(names)
    }
    data[ROW] = pl.Series(ROW, [at for at, _, _, _ in records], dtype=pl.Int64)
    data[BAD] = pl.Series(BAD, [reason for _, _, reason, _ in records], dtype=pl.String)
    data[RAW] = pl.Series(RAW, [_clean(line) for _, _, _, line in records], dtype=pl.String)
    return pl.DataFrame(data)


def _object(line: str) -> dict[str, Any] | str:
    """The JSON object on a line, or why there is none."""
    if not encodable(line):
        return "it is not UTF-8"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({str(error)[:60]})"
    return value if isinstance(value, dict) else "it is not a JSON object"


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _jsonl_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    with _opened(path) as stream:
        lines = ((at, line) for at, line in zip(count(1), stream, strict=False) if line.strip())
        given = False
        while part := list(islice(lines, batch)):
            yield _jsonl_frame(part)
            given = True
        if not given:
            yield _frame([], [])


def _jsonl_frame(lines: Sequence[tuple[int, str]]) -> pl.DataFrame:
    values = [_object(line) for _, line in lines]
    names = list(dict.fromkeys(name for value in values if isinstance(value, dict) for name in value))
    records: list[delimited.Record] = []
    for (at, line), value in zip(lines, values, strict=True):
        if isinstance(value, str):
            records.append((at, None, value, line))
            continue
        # a lone surrogate written as an escape cannot be stored anywhere
        fields = [_as_text(value.get(name)) for name in names]
        whole = all(field is None or encodable(field) for field in fields)
        if whole:
            records.append((at, fields, None, None))  # type: ignore[arg-type]
        else:
            records.append((at, None, "it holds a broken character (a lone surrogate)", line))
    return _frame(records, names)
