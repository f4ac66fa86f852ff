"""Encode a frame in the binary format of PostgreSQL's COPY, column by column.

In: a table and a frame of its columns. Out: blocks of bytes; None if a column has no binary encoding here.
Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.types import IntArray

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_BLOCK_ROWS = 16_384
"""Rows encoded at a time: their arrays fit into the processor cache."""
_NUMBER_FORMATS: tuple[tuple[type[sa.types.TypeEngine[Any]], pl.DataType | type[pl.DataType], str], ...] = (
    (sa.BigInteger, pl.Int64, ">i8"),
    (sa.Integer, pl.Int32, ">i4"),
    (sa.Float, pl.Float64, ">f8"),
    (sa.Boolean, pl.Boolean, "u1"),
)


def encode_blocks(
    table: sa.Table, frame: pl.DataFrame, constants: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview] | None:
    """Encode the stream of `COPY table (constants, columns of frame) FROM STDIN (FORMAT BINARY)`.

    Args:
        table: gives the types: text, JSON, integer, double precision, boolean and bytea can be encoded here.
        frame: the rows.
        constants: columns with one value for all rows.

    Returns:
        The stream in blocks; None if a column has another type, such as a timestamp given as text.
    """
    prepared = [_prepare_column(table.c[name].type, frame[name]) for name in frame.columns]
    columns = [column for column in prepared if column is not None]
    if len(columns) < len(prepared):
        return None
    return _encode_stream(pl.DataFrame(columns), [table.c[name].type for name in frame.columns], dict(constants or {}))


def _encode_stream(
    frame: pl.DataFrame, types: list[sa.types.TypeEngine[Any]], constants: dict[str, str]
) -> Iterator[bytes | memoryview]:
    yield _HEADER
    prefix = struct.pack(">h", len(constants) + frame.width)
    for value in constants.values():
        text = value.encode()
        prefix += struct.pack(">i", len(text)) + text
    for offset in range(0, frame.height, _BLOCK_ROWS):
        yield _encode_rows(frame.slice(offset, _BLOCK_ROWS), types, prefix)
    yield _TRAILER


def _prepare_column(sql_type: sa.types.TypeEngine[Any], column: pl.Series) -> pl.Series | None:
    """Cast a column to the table's type; None if it has no binary encoding."""
    if isinstance(sql_type, sa.LargeBinary):
        return column if column.dtype == pl.Binary else None
    if isinstance(sql_type, sa.Text | sa.JSON):
        return column if column.dtype == pl.String else None
    for number_type, dtype, _ in _NUMBER_FORMATS:
        if isinstance(sql_type, number_type):
            return column.cast(dtype)  # a number out of range raises an error
    return None


def _encode_rows(frame: pl.DataFrame, types: list[sa.types.TypeEngine[Any]], prefix: bytes) -> memoryview:
    """Encode all rows, one after the other.

    Fields of the same width in every row are combined in one structured array; arrow then joins these arrays with the
    variable-width fields between them, row by row.
    """
    n = frame.height
    joined: list[pa.Array] = []
    fixed: list[npt.NDArray[Any]] = [np.full(n, np.void(prefix))]
    for sql_type, column in zip(types, frame.iter_columns(), strict=True):
        lengths, values, body = _encode_field(sql_type, column)
        fixed.append(lengths)
        if values is not None:
            fixed.append(values)
        else:
            joined += [_concatenate_fixed_width(fixed), body]
            fixed = []
    if fixed:
        joined.append(_concatenate_fixed_width(fixed))
    encoded = joined[0] if len(joined) == 1 else pc.binary_join_element_wise(*joined, pa.scalar(b"", pa.large_binary()))
    return memoryview(encoded.buffers()[2])


def _encode_field(
    sql_type: sa.types.TypeEngine[Any], column: pl.Series
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, pa.Array | None]:
    """Return a column's lengths (n,), -1 for NULL, and its bytes.

    The bytes are an array of one width, or an arrow binary array.
    """
    lengths: npt.NDArray[Any]
    is_null = column.is_null().to_numpy() if column.null_count() else None
    if column.dtype in (pl.String, pl.Binary):
        text = column.dtype == pl.String
        sizes = column.str.len_bytes() if text else column.bin.size()
        lengths = sizes.fill_null(0).to_numpy().astype(">i4")
        filled = column.fill_null("" if text else b"") if is_null is not None else column
        body = filled.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_binary())
        if is_null is not None:
            lengths[is_null] = -1
        elif (width := int(lengths[0])) and (lengths == width).all():  # often true of ids
            _, offsets, data = body.buffers()
            first = int(np.frombuffer(offsets, np.int64)[body.offset])
            return lengths, np.frombuffer(data, f"V{width}", len(column), first), None
        return lengths, None, body
    number_format = next(
        number_format for number_type, _, number_format in _NUMBER_FORMATS if isinstance(sql_type, number_type)
    )
    width = np.dtype(number_format).itemsize
    lengths = np.full(len(column), width, dtype=">i4")
    if is_null is None:
        return lengths, column.to_numpy().astype(number_format), None
    lengths[is_null] = -1
    values = column.drop_nulls().to_numpy().astype(number_format)
    ends = np.concatenate([[0], np.cumsum(~is_null)]) * width
    return lengths, None, _to_binary_array(values, ends)


def _concatenate_fixed_width(parts: list[npt.NDArray[Any]]) -> pa.Array:
    """Concatenate arrays of the same length (n,) row by row to one binary array."""
    layout = np.dtype([(f"p{index}", part.dtype) for index, part in enumerate(parts)])
    table = np.empty(len(parts[0]), dtype=layout)
    for index, part in enumerate(parts):
        table[f"p{index}"] = part
    return _to_binary_array(table, np.arange(len(table) + 1) * layout.itemsize)


def _to_binary_array(values: npt.NDArray[Any], ends: IntArray) -> pa.Array:
    offsets = pa.py_buffer(np.ascontiguousarray(ends, dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, [None, offsets, pa.py_buffer(values)])
