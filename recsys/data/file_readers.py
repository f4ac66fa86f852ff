"""Read csv, tsv, jsonl and parquet files in batches; text files may be .gz.

In: a path. Out: frames with the line number of each row; text files give text columns only.
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
"""Column of a raw frame: line of a text file (the header is line 1), else the row number, starting with 1."""
BAD: Final = "__bad__"
"""Column of a raw frame: the reason why the row could not be parsed, else null."""
RAW: Final = "__raw__"
"""Column of a raw frame: the line that could not be parsed, else null."""
SKIP: Final = "__skip__"
"""Column of a raw frame: the code under which a preset filters the row out, else null."""
MARKS: Final = (ROW, BAD, RAW, SKIP)

BATCH: Final = 100_000
_DELIMITED: Final = {".csv", ".tsv", ".txt"}
_JSON_LINES: Final = {".jsonl", ".ndjson", ".json"}
_PARQUET: Final = {".parquet", ".pq"}


def detect_format(path: Path) -> str | None:
    """Return the format of a file by its name: `csv`, `jsonl`, `parquet`, or None."""
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    suffix = suffix.lower()
    if suffix in _DELIMITED:
        return "csv"
    if suffix in _JSON_LINES:
        return "jsonl"
    return "parquet" if suffix in _PARQUET and path.suffix.lower() != ".gz" else None


def columns(path: Path) -> list[str]:
    """Return the column names of a file; for jsonl, the keys of its first hundred readable lines.

    Raises:
        UsageError: the file is missing, of an unknown format, or of another format than its name says.
    """
    format_ = _require_format(path)
    if format_ == "parquet":
        return [str(name) for name in _open_parquet(path).schema_arrow.names]
    with _open_text(path) as stream:
        if format_ == "csv":
            return _read_header(path, stream)[0]
        names: dict[str, None] = {}
        for line in islice(stream, 100):
            value = _parse_json_object(line)
            if isinstance(value, dict):
                names.update(dict.fromkeys(value))
        return list(names)


def frames(path: Path, *, batch: int = BATCH) -> Iterator[pl.DataFrame]:
    """Read a file in batches; each frame has the columns ROW, BAD and RAW in addition to its own.

    Raises:
        UsageError: as for `columns`.
    """
    format_ = _require_format(path)
    if format_ == "parquet":
        return _parquet_frames(path, batch)
    return _csv_frames(path, batch) if format_ == "csv" else _jsonl_frames(path, batch)


def _require_format(path: Path) -> str:
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    format_ = detect_format(path)
    if format_ is None:
        raise UsageError(
            f"{path}: files of this kind are not read; give .csv, .tsv, .jsonl (or these as .gz) or .parquet"
        )
    return format_


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """Open as text; bytes that are not UTF-8 become lone surrogates, so that only their line is rejected."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                yield stream
        else:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({error}); export it again") from error


def _open_parquet(path: Path) -> Any:  # pyarrow has no type annotations
    import pyarrow.parquet as pq

    with _translate_parquet_errors(path):
        return pq.ParquetFile(path)


@contextmanager
def _translate_parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} is not a readable parquet file ({reason}); export it again") from error


def _parquet_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    file = _open_parquet(path)
    start = 1
    with _translate_parquet_errors(path):
        for record_batch in file.iter_batches(batch_size=batch):
            frame = pl.DataFrame(record_batch)
            yield add_row_numbers(frame, start=start)
            start += frame.height
    if start == 1:
        yield add_row_numbers(pl.DataFrame(file.schema_arrow.empty_table()), start=1)


def add_row_numbers(frame: pl.DataFrame, *, start: int) -> pl.DataFrame:
    """Add the columns ROW, BAD and RAW to rows that were read without errors."""
    rows = pl.int_range(start, start + pl.len(), dtype=pl.Int64).alias(ROW)
    null = pl.lit(None, dtype=pl.String)
    return frame.with_columns(rows, null.alias(BAD), null.alias(RAW))


def _read_header(path: Path, stream: TextIO) -> tuple[list[str], str]:
    """Return the column names in the first line and the delimiter: the most frequent of `,` `;` tab `|` in it."""
    line = stream.readline()
    if not line.strip():
        raise UsageError(f"{path} is empty; its first line must name the columns")
    delimiter = max(",;\t|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{path}: column {repeated[0]!r} stands twice in the first line; rename one")
    if not encodable(line):
        raise UsageError(f"{path}: the first line is not UTF-8; save the file as UTF-8")
    return names, delimiter


def _csv_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    with _open_text(path) as stream:
        names, delimiter = _read_header(path, stream)
        records = delimited.records(stream, delimiter, width=len(names))
        is_empty = True
        while chunk := list(islice(records, batch)):
            yield _to_frame(chunk, names)
            is_empty = False
        if is_empty:
            yield _to_frame([], names)


def _shorten_line(line: str | None) -> str | None:
    return None if line is None else line.rstrip("\r\n")[:2000].encode("utf-8", "replace").decode()


def _to_frame(records: Sequence[delimited.Record], names: Sequence[str]) -> pl.DataFrame:
    nulls = [None] * len(names)
    values = list(zip(*(fields if fields is not None else nulls for _, fields, _, _ in records), strict=True))
    data: dict[str, pl.Series] = {
        name: pl.Series(name, values[i] if values else [], dtype=pl.String) for i, name in enumerate(names)
    }
    data[ROW] = pl.Series(ROW, [number for number, _, _, _ in records], dtype=pl.Int64)
    data[BAD] = pl.Series(BAD, [reason for _, _, reason, _ in records], dtype=pl.String)
    data[RAW] = pl.Series(RAW, [_shorten_line(line) for _, _, _, line in records], dtype=pl.String)
    return pl.DataFrame(data)


def _parse_json_object(line: str) -> dict[str, Any] | str:
    """Return the JSON object in a line, or the reason why it cannot be parsed."""
    if not encodable(line):
        return "it is not UTF-8"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({str(error)[:60]})"
    return value if isinstance(value, dict) else "it is not a JSON object"


def _to_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _jsonl_frames(path: Path, batch: int) -> Iterator[pl.DataFrame]:
    with _open_text(path) as stream:
        lines = ((number, line) for number, line in zip(count(1), stream, strict=False) if line.strip())
        is_empty = True
        while chunk := list(islice(lines, batch)):
            yield _jsonl_frame(chunk)
            is_empty = False
        if is_empty:
            yield _to_frame([], [])


def _jsonl_frame(lines: Sequence[tuple[int, str]]) -> pl.DataFrame:
    values = [_parse_json_object(line) for _, line in lines]
    names = list(dict.fromkeys(name for value in values if isinstance(value, dict) for name in value))
    records: list[delimited.Record] = []
    for (number, line), value in zip(lines, values, strict=True):
        if isinstance(value, str):
            records.append((number, None, value, line))
            continue
        # a lone surrogate written as an escape cannot be stored
        fields = [_to_text(value.get(name)) for name in names]
        is_encodable = all(field is None or encodable(field) for field in fields)
        if is_encodable:
            records.append((number, fields, None, None))  # type: ignore[arg-type]
        else:
            records.append((number, None, "it holds a broken character (a lone surrogate)", line))
    return _to_frame(records, names)
