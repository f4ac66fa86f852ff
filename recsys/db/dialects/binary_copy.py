"""A frame as PostgreSQL's COPY reads it in its binary form, made column by column.

In: a table and a frame of its columns. Out: blocks of bytes; None where a column has no binary form here.
The form: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
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

_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_BLOCK = 16_384
"""Rows turned into bytes at a time: their pieces stay in the processor's cache."""
_NUMBERS: tuple[tuple[type[sa.types.TypeEngine[Any]], pl.DataType | type[pl.DataType], str], ...] = (
    (sa.BigInteger, pl.Int64, ">i8"),
    (sa.Integer, pl.Int32, ">i4"),
    (sa.Float, pl.Float64, ">f8"),
    (sa.Boolean, pl.Boolean, "u1"),
)


def blocks(
    table: sa.Table, frame: pl.DataFrame, same: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview] | None:
    """The bytes of `COPY table (columns of same, columns of frame) FROM STDIN (FORMAT BINARY)`.

    Args:
        table: tells the types: text, JSON, integer, double precision, boolean and bytea have a binary form here.
        frame: the rows.
        same: columns with one value for all rows.

    Returns:
        The stream in parts; None when a column is of another type, such as a timestamp that comes as text.
    """
    held = [_prepared(table.c[name].type, frame[name]) for name in frame.columns]
    columns = [column for column in held if column is not None]
    if len(columns) < len(held):
        return None
    return _stream(pl.DataFrame(columns), [table.c[name].type for name in frame.columns], dict(same or {}))


def _stream(
    frame: pl.DataFrame, types: list[sa.types.TypeEngine[Any]], same: dict[str, str]
) -> Iterator[bytes | memoryview]:
    yield _HEAD
    start = struct.pack(">h", len(same) + frame.width)
    for value in same.values():
        text = value.encode()
        start += struct.pack(">i", len(text)) + text
    for offset in range(0, frame.height, _BLOCK):
        yield _rows(frame.slice(offset, _BLOCK), types, start)
    yield _TAIL


def _prepared(kind: sa.types.TypeEngine[Any], column: pl.Series) -> pl.Series | None:
    """The column as its type in the table wants it; None where there is no binary form."""
    if isinstance(kind, sa.LargeBinary):
        return column if column.dtype == pl.Binary else None
    if isinstance(kind, sa.Text | sa.JSON):
        return column if column.dtype == pl.String else None
    for sql, wanted, _ in _NUMBERS:
        if isinstance(kind, sql):
            return column.cast(wanted)  # a number that does not fit is an error here, never another number
    return None


def _rows(frame: pl.DataFrame, types: list[sa.types.TypeEngine[Any]], start: bytes) -> memoryview:
    """All rows as bytes, one after the other.

    What has the same width in every row is put side by side in one structured array; arrow then joins these arrays
    with the texts between them, row by row.
    """
    n = frame.height
    joined: list[pa.Array] = []
    fixed: list[npt.NDArray[Any]] = [np.full(n, np.void(start))]
    for kind, column in zip(types, frame.iter_columns(), strict=True):
        lengths, values, body = _field(kind, column)
        fixed.append(lengths)
        if values is not None:
            fixed.append(values)
        else:
            joined += [_side_by_side(fixed), body]
            fixed = []
    if fixed:
        joined.append(_side_by_side(fixed))
    whole = joined[0] if len(joined) == 1 else pc.binary_join_element_wise(*joined, pa.scalar(b"", pa.large_binary()))
    return memoryview(whole.buffers()[2])


def _field(
    kind: sa.types.TypeEngine[Any], column: pl.Series
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, pa.Array | None]:
    """A column's lengths (n,), -1 for NULL, and its bytes: as an array of one width, or as arrow's binary."""
    lengths: npt.NDArray[Any]
    empty = column.is_null().to_numpy() if column.null_count() else None
    if column.dtype in (pl.String, pl.Binary):
        text = column.dtype == pl.String
        sizes = column.str.len_bytes() if text else column.bin.size()
        lengths = sizes.fill_null(0).to_numpy().astype(">i4")
        full = column.fill_null("" if text else b"") if empty is not None else column
        body = full.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_binary())
        if empty is not None:
            lengths[empty] = -1
        elif (width := int(lengths[0])) and (lengths == width).all():  # as ids often are
            _, offsets, data = body.buffers()
            first = int(np.frombuffer(offsets, np.int64)[body.offset])
            return lengths, np.frombuffer(data, f"V{width}", len(column), first), None
        return lengths, None, body
    form = next(form for sql, _, form in _NUMBERS if isinstance(kind, sql))
    width = np.dtype(form).itemsize
    lengths = np.full(len(column), width, dtype=">i4")
    if empty is None:
        return lengths, column.to_numpy().astype(form), None
    lengths[empty] = -1
    values = column.drop_nulls().to_numpy().astype(form)
    ends = np.concatenate([[0], np.cumsum(~empty)]) * width
    return lengths, None, _binary(values, ends)


def _side_by_side(parts: list[npt.NDArray[Any]]) -> pa.Array:
    """Arrays of one length (n,) as one array of bytes: the parts of each row follow each other."""
    layout = np.dtype([(f"p{place}", part.dtype) for place, part in enumerate(parts)])
    table = np.empty(len(parts[0]), dtype=layout)
    for place, part in enumerate(parts):
        table[f"p{place}"] = part
    return _binary(table, np.arange(len(table) + 1) * layout.itemsize)


def _binary(values: npt.NDArray[Any], ends: IntArray) -> pa.Array:
    offsets = pa.py_buffer(np.ascontiguousarray(ends, dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, [None, offsets, pa.py_buffer(values)])
