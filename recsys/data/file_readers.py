"""Read tables from files: csv, tsv, JSON Lines, JSON, Parquet and Excel, also compressed or inside a zip.

In: a file. Out: its column names, and frames in batches with the position of each row.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from recsys.data.formats import delimited, excel, json_records, parquet
from recsys.data.formats.input_file import InputFile
from recsys.data.formats.rows import BAD, MARKS, RAW, ROW, SKIP, UNTYPED, add_row_numbers
from recsys.errors import UsageError

__all__ = [
    "BAD",
    "BATCH",
    "MARKS",
    "RAW",
    "ROW",
    "SKIP",
    "UNTYPED",
    "add_row_numbers",
    "columns",
    "detect_format",
    "frames",
    "zip_members",
]

BATCH: Final = 100_000
_FORMATS: Final = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), "excel"),
}
KNOWN: Final = ".csv, .tsv, .jsonl, .json, .parquet or .xlsx, also as .gz, .zst, .bz2, .xz or in a .zip"


def detect_format(file: InputFile | Path) -> str | None:
    """Return the format of a file by its name: `csv`, `jsonl`, `parquet`, `excel`, or None."""
    return _FORMATS.get(_as_input(file).suffix)


def columns(file: InputFile | Path) -> list[str]:
    """Return the column names of a file; of JSON, the keys of the first hundred objects.

    Raises:
        UsageError: the file is missing, of an unknown format, or of another format than its name says.
    """
    file = _as_input(file)
    match _require_format(file):
        case "parquet":
            return parquet.columns(file)
        case "excel":
            return excel.columns(file)
        case "jsonl":
            return json_records.columns(file)
        case _:
            return delimited.columns(file)


def frames(file: InputFile | Path, *, batch: int = BATCH, notes: Counter[str] | None = None) -> Iterator[pl.DataFrame]:
    """Read a file in batches; each frame has the columns ROW, BAD and RAW in addition to its own.

    Args:
        file: the file.
        batch: maximum number of rows of a frame.
        notes: counts remarks on the file, for example unnamed columns.

    Raises:
        UsageError: as for `columns`.
    """
    file = _as_input(file)
    notes = Counter() if notes is None else notes
    format_ = _require_format(file)
    if format_ in {"csv", "jsonl"}:
        encoding, is_guessed = file.detect_encoding()
        if is_guessed:
            notes[f'read as {encoding}, which was guessed; if letters are wrong, set [data] encoding = "..."'] += 1
    match format_:
        case "parquet":
            return parquet.frames(file, batch=batch)
        case "excel":
            return excel.frames(file, notes=notes)
        case "jsonl":
            return json_records.frames(file, batch=batch, notes=notes)
        case _:
            return delimited.frames(file, batch=batch, notes=notes)


def zip_members(path: Path) -> list[str]:
    """Return the paths of the files in a zip.

    Raises:
        UsageError: the file is no readable zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [member.filename for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise UsageError(f"{path} is not a readable zip ({error}); export it again") from error


def _as_input(file: InputFile | Path) -> InputFile:
    return file if isinstance(file, InputFile) else InputFile(file)


def _require_format(file: InputFile) -> str:
    if not file.path.exists():
        raise UsageError(f"no such file or folder: {file}")
    format_ = detect_format(file)
    if format_ is None:
        raise UsageError(f"{file}: files of this kind are not read; give {KNOWN}")
    return format_
