"""Writes a file of answers batch by batch; the file appears under its name only when it is complete.

In: frames of the same columns. Out: a parquet, csv or jsonl file, by the ending of its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import polars as pl

from recsys.artifacts import atomic
from recsys.data import schema
from recsys.errors import UsageError

SUFFIXES: Final = (".parquet", ".csv", ".jsonl")
_FORMULA_START: Final = r"^[=+\-@\t\r]"
"""Characters that make a spreadsheet evaluate a cell; such a title is prefixed with a quotation mark."""


class ResultWriter:
    """Writer of one file, for a `with` block; after an error there is no file.

    Args:
        path: the file; its ending selects the format.

    Raises:
        UsageError: the ending is not one of SUFFIXES, or the folder does not exist.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: answers are written as {', '.join(SUFFIXES)}; end the name with one of them")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file")
        self.path, self.rows = path, 0
        self._prefix = f".{path.name}-"
        self._draft = path.with_name(f"{self._prefix}{os.getpid()}")
        self._file: IO[bytes] | None = None
        self._parquet: Any = None

    def __enter__(self) -> Self:
        atomic.remove_stale_temp_files(self.path.parent, self._prefix)
        self._file = self._draft.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if self._parquet is not None:
                self._parquet.close()
            if error is None:
                self._file.flush()
                atomic.fsync_file(self._file.fileno())
            self._file.close()
            if error is None:
                self._draft.replace(self.path)
        finally:
            self._draft.unlink(missing_ok=True)

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows; all frames must have the same columns."""
        assert self._file is not None
        if self.path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self._file, table.schema)
            self._parquet.write_table(table)
        elif self.path.suffix == ".csv":
            title = pl.col(schema.TITLE)
            safe = pl.when(title.str.contains(_FORMULA_START)).then(pl.lit("'") + title).otherwise(title)
            frame.with_columns(safe.alias(schema.TITLE)).write_csv(self._file, include_header=not self.rows)
        else:
            frame.write_ndjson(self._file)
        self.rows += frame.height
