"""How far a shop's own tables have been read, kept in the same transaction as the rows that were read.

In: a batch of judged rows and where it ends. Out: rows in the store and a `Watermark`, both or neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

_TIMES = ("newest", "reached", "updated_at")


@dataclass(frozen=True)
class Watermark:
    """How far one SELECT has been read. All times are UTC seconds.

    Attributes:
        source: the SELECT's name, as in `rejected_rows`.
        fingerprint: of database and query; a mark of another one counts for nothing.
        newest: the newest row of the last reading that came to its end; None = there was none.
        reached: a reading was stopped: everything before this is in the store; None = none was.
        counts: of the rows before `reached`.
    """

    source: str
    fingerprint: str
    newest: int | None = None
    reached: int | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)


def read_watermark(store: Store, source: str, fingerprint: str) -> Watermark:
    """The mark of a SELECT; an empty one where it was never read, or was another SELECT then."""
    table = tables.source_marks
    with store.engine.connect().execution_options(stream_results=True) as connection:
        found = connection.execute(sa.select(table).where(table.c.source == source)).mappings().first()
    if found is None or found["fingerprint"] != fingerprint:
        return Watermark(source, fingerprint)
    newest, reached = (_seconds(found[name]) for name in ("newest", "reached"))
    return Watermark(source, fingerprint, newest, reached, found["counts"] or {})


def has_mark(store: Store, source: str) -> bool:
    """Whether any SELECT of this name was read before."""
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
    after: int | None = None,
    move: Watermark | None = None,
) -> None:
    """Insert or replace rows, keep the rejected ones, and move the mark, in one transaction.

    Args:
        store: the store.
        table: `products`, `users` or `events`.
        accepted: its canonical rows; times are Int64 UTC seconds.
        rejected: columns schema.REJECTED_COLUMNS.
        source: what the rows are read from.
        after: this is the first batch: rejects of the source numbered higher are of an earlier reading, and go.
        move: where the mark is then; None = it stays.
    """
    with store.engine.begin() as connection:
        stamp = int(store.dialect.now(connection).timestamp())
        write_rows(store, connection, {table: accepted}, stamp)
        if after is not None:
            bad = tables.rejected_rows
            connection.execute(sa.delete(bad).where(bad.c.source == source, bad.c.row_no > after))
        store.dialect.bulk_load(connection, tables.rejected_rows, rejected)
        if move is not None:
            _put(store, connection, move, stamp)


def set_watermark(store: Store, move: Watermark) -> None:
    """Set a mark alone."""
    with store.engine.begin() as connection:
        _put(store, connection, move, int(store.dialect.now(connection).timestamp()))


def _put(store: Store, connection: Connection, move: Watermark, stamp: int) -> None:
    row = {
        "source": [move.source],
        "fingerprint": [move.fingerprint],
        "newest": [move.newest],
        "reached": [move.reached],
        "counts": [json.dumps(dict(move.counts))],
        "updated_at": [stamp],
    }
    frame = pl.DataFrame(row, schema_overrides=dict.fromkeys(_TIMES, pl.Int64))
    store.dialect.upsert(connection, tables.source_marks, sql_times(frame, _TIMES))


def _seconds(value: datetime | None) -> int | None:
    if value is None:
        return None
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
