"""The source tables of an ingest, and those of frames from a Python program.

In: polars, pandas and pyarrow frames. Out: `SourceTable`s, one table of one source each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from recsys.data import file_readers as files
from recsys.data import schema
from recsys.data.presets import get_preset
from recsys.errors import UsageError, suggestion

TABLES: Final = ("products", "users", "events")
"""In the order in which they are validated."""


@dataclass(frozen=True)
class SourceTable:
    """One table of one source.

    Attributes:
        table: `products`, `users` or `events`.
        source: its name in messages and in `rejected_rows`.
        frames: opens the source and yields raw frames with canonical columns.
        notes: remarks on the source with their counts, complete when the frames have been read.
    """

    table: str
    source: str
    frames: Callable[[], Iterator[pl.DataFrame]] = field(repr=False)
    notes: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    def frame(self) -> pl.DataFrame:
        """Return all rows; a column whose type differs between batches gets the wider type, or text."""
        frames = list(self.frames())
        try:
            return pl.concat(frames, how="diagonal_relaxed")
        except (pl.exceptions.SchemaError, pl.exceptions.InvalidOperationError):
            return pl.concat([_cast_to_text(frame) for frame in frames], how="diagonal")


def _cast_to_text(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data import parsing as parse

    return frame.with_columns(parse.text(frame[name]) for name in frame.columns if name not in files.MARKS)


def inputs_from_frames(tables: Mapping[str, Any]) -> list[SourceTable]:
    """Create source tables from frames: table name to polars, pandas or pyarrow frame.

    Raises:
        UsageError: a name is no table, a value is no frame, or a required column is missing.
    """
    parts = []
    for table in tables:
        if table not in schema.TABLES:
            raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES)}")
    for table in (name for name in TABLES if name in tables):
        raw = files.add_row_numbers(to_polars(tables[table]), start=1)
        schema.require_columns(table, raw.columns, source="the frame")
        canonical = list(get_preset("csv").shape(iter([raw]), table))
        parts.append(SourceTable(table, f"python/{table}", lambda canonical=canonical: iter(canonical)))  # type: ignore[misc]
    return parts


def to_polars(data: Any) -> pl.DataFrame:
    """Convert a polars, pandas or pyarrow frame, a dictionary of columns or a list of rows to polars.

    Raises:
        UsageError: `data` is none of these.
    """
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    try:
        if hasattr(data, "iloc"):
            return pl.from_pandas(data)
        return pl.DataFrame(data)
    except Exception as error:  # each library has its own errors for what it cannot convert
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{type(data).__name__} cannot be read as a frame ({reason}); give polars, pandas or pyarrow"
        ) from error
