"""Watermarks: how far each SELECT on a source database has been read, saved together with its rows.

In: a batch of validated rows and its end. Out: rows in the store and a `Watermark`, in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from recsys.db.dialects import sql_times
from recsys.store import tables
from recsys.store.input_tables import write_rows

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from recsys.store.store import Store

_TIME_COLUMNS = ("newest", "reached", "updated_at")


@dataclass(frozen=True)
class Watermark:
    """How far one SELECT has been read. All times are UTC seconds.

    Attributes:
        source: name of the SELECT, as in `rejected_rows`.
        fingerprint: fingerprint of database and query; a watermark with another fingerprint is ignored.
        newest: time of the newest row of the last complete read; None if there was none.
        reached: an interrupted read has stored every row before this time; None if no read was interrupted.
        counts: counts of the rows before `reached`.
    """

    source: str
    fingerprint: str
    newest: int | None = None
    reached: int | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)


def read_watermark(store: Store, source: str, fingerprint: str) -> Watermark:
    """Return the watermark of a SELECT; an empty one if it was never read or its fingerprint differs."""
    table = tables.source_marks
    with store.engine.connect().execution_options(stream_results=True) as connection:
        row = connection.execute(sa.select(table).where(table.c.source == source)).mappings().first()
    if row is None or row["fingerprint"] != fingerprint:
        return Watermark(source, fingerprint)
    newest, reached = (_utc_seconds(row[name]) for name in ("newest", "reached"))
    return Watermark(source, fingerprint, newest, reached, row["counts"] or {})


def has_watermark(store: Store, source: str) -> bool:
    """Return whether any SELECT of this name was read before."""
    table = tables.source_marks
    with store.engine.connect().execution_options(stream_results=True) as connection:
        return connection.execute(sa.select(table.c.source).where(table.c.source == source)).first() is not None


def write_batch(
    store: Store,
    table: str,
    accepted: pl.DataFrame,
    rejected: pl.DataFrame,
    *,
    source: str,
    delete_rejected_after: int | None = None,
    watermark: Watermark | None = None,
    keep: Sequence[str] = (),
) -> None:
    """Insert or replace rows, store rejected rows, and set the watermark, in one transaction.

    Args:
        store: the store.
        table: `products`, `users` or `events`.
        accepted: canonical rows; times are Int64 UTC seconds.
        rejected: columns schema.REJECTED_COLUMNS.
        source: source the rows were read from.
        delete_rejected_after: set for the first batch: rejected rows of the source with a higher row number belong
            to an earlier read and are deleted.
        watermark: the new watermark; None leaves it unchanged.
        keep: columns of events that the source lacks; events that are stored keep their values.
    """
    with store.engine.begin() as connection:
        stamp = int(store.dialect.now(connection).timestamp())
        write_rows(store, connection, {table: accepted}, stamp, keep)
        if delete_rejected_after is not None:
            rejected_rows = tables.rejected_rows
            connection.execute(
                sa.delete(rejected_rows).where(
                    rejected_rows.c.source == source, rejected_rows.c.row_no > delete_rejected_after
                )
            )
        store.dialect.bulk_load(connection, tables.rejected_rows, rejected)
        if watermark is not None:
            _upsert_watermark(store, connection, watermark, stamp)


def set_watermark(store: Store, watermark: Watermark) -> None:
    """Set a watermark without writing rows."""
    with store.engine.begin() as connection:
        _upsert_watermark(store, connection, watermark, int(store.dialect.now(connection).timestamp()))


def _upsert_watermark(store: Store, connection: Connection, watermark: Watermark, stamp: int) -> None:
    row = {
        "source": [watermark.source],
        "fingerprint": [watermark.fingerprint],
        "newest": [watermark.newest],
        "reached": [watermark.reached],
        "counts": [json.dumps(dict(watermark.counts))],
        "updated_at": [stamp],
    }
    frame = pl.DataFrame(row, schema_overrides=dict.fromkeys(_TIME_COLUMNS, pl.Int64))
    store.dialect.upsert(connection, tables.source_marks, sql_times(frame, _TIME_COLUMNS))


def _utc_seconds(value: datetime | None) -> int | None:
    if value is None:
        return None
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
