"""Read Parquet files in batches; types that polars cannot read become text.

In: a file. Out: its column names; frames with the row number of each row.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from recsys.data.formats.input_file import InputFile
from recsys.data.formats.rows import add_row_numbers
from recsys.errors import UsageError


def columns(file: InputFile) -> list[str]:
    """Return the column names.

    Raises:
        UsageError: the file is no Parquet file, or has a column twice.
    """
    with _open(file) as parquet:
        return _names(file, parquet)


def frames(file: InputFile, *, batch: int) -> Iterator[pl.DataFrame]:
    """Yield frames of at most `batch` rows, at least one."""
    with _open(file) as parquet:
        _names(file, parquet)
        start = 1
        for record_batch in parquet.iter_batches(batch_size=batch):
            frame = _to_polars(record_batch)
            yield add_row_numbers(frame, start=start)
            start += frame.height
        if start == 1:
            yield add_row_numbers(_to_polars(parquet.schema_arrow.empty_table()), start=1)


def _names(file: InputFile, parquet: Any) -> list[str]:
    names = [str(name) for name in parquet.schema_arrow.names]
    repeated = sorted(name for name, number in Counter(names).items() if number > 1)
    if repeated:
        raise UsageError(f"{file}: column {repeated[0]!r} stands twice; rename one")
    return names


@contextmanager
def _open(file: InputFile) -> Iterator[Any]:  # pyarrow has no type annotations
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.member is None and file.compression is None:
            with pq.ParquetFile(file.path) as parquet:
                yield parquet
        else:
            with file.open_binary() as stream:
                yield pq.ParquetFile(io.BytesIO(stream.read()))
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["unknown error"])[0]
        raise UsageError(f"{file} is not a readable parquet file ({reason}); export it again") from error


def _to_polars(table: Any) -> pl.DataFrame:
    import pyarrow as pa

    arrays = []
    for name in table.schema.names:
        array = table.column(name)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        arrays.append(_to_series(str(name), array))
    return pl.DataFrame(arrays)


def _to_series(name: str, array: Any) -> pl.Series:
    import pyarrow as pa

    types = pa.types
    kind = array.type
    if types.is_decimal(kind) and not types.is_decimal128(kind):
        return pl.Series(name, [None if value is None else str(value) for value in array.to_pylist()], dtype=pl.String)
    if types.is_decimal128(kind) and kind.scale == 0:
        return pl.Series(name, [None if value is None else str(value) for value in array.to_pylist()], dtype=pl.String)
    if (
        types.is_duration(kind)
        or types.is_interval(kind)
        or types.is_union(kind)
        or types.is_float16(kind)
        or types.is_map(kind)
    ):
        values = array.to_pylist()
        if types.is_float16(kind):
            return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
        if types.is_map(kind):
            values = [None if value is None else dict(value) for value in values]
            return pl.Series(name, values, dtype=pl.Object)
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
    if types.is_fixed_size_binary(kind):
        array = array.cast(pa.large_binary())
    try:
        return pl.Series(name, array)
    except Exception:  # polars raises different errors for types it does not know
        return pl.Series(name, [None if value is None else str(value) for value in array.to_pylist()], dtype=pl.String)
