"""Writing a shop's accepted rows, and keeping the rejected ones with their reasons.

In: canonical frames (times as UTC seconds) and rejects. Out: rows in products, users, events, rejected_rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from recsys.data import schema
from recsys.db.dialects import sql_times
from recsys.execution.failpoints import failpoint
from recsys.store import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from recsys.store.store import Store

_ORDER = ("products", "users", "events")
_CHUNK = 200_000


def write_inputs(
    store: Store,
    accepted: dict[str, pl.DataFrame],
    rejected: pl.DataFrame,
    *,
    sources: Sequence[str],
    pictured: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Insert or replace accepted rows by key; replace the rejects of the same sources. One transaction for all.

    Args:
        store: the store.
        accepted: canonical frames by table name; `occurred_at` and `created_at` are Int64 UTC seconds.
        rejected: columns schema.REJECTED_COLUMNS.
        sources: what the rows were read from; reading it again replaces its rejects.
        pictured: products stored before that have a picture file now: id to file name.

    Returns:
        Rows written by table.
    """
    with store.engine.begin() as connection:
        counts = write_rows(store, connection, accepted, int(store.dialect.now(connection).timestamp()))
        if pictured:
            products = tables.products
            named = (
                sa.update(products)
                .where(products.c.product_id == sa.bindparam("id"))
                .values(image=sa.bindparam("file"))
            )
            connection.execute(named, [{"id": name, "file": file} for name, file in pictured.items()])
        connection.execute(sa.delete(tables.rejected_rows).where(tables.rejected_rows.c.source.in_(sources)))
        store.dialect.bulk_load(connection, tables.rejected_rows, rejected)
        counts["rejected"] = rejected.height
        failpoint("store.inputs.commit.before")
    failpoint("store.inputs.commit.after")
    return counts


def write_rows(
    store: Store, connection: Connection, accepted: Mapping[str, pl.DataFrame], stamp: int
) -> dict[str, int]:
    """Insert or replace accepted rows by key inside the connection's transaction; return rows written by table."""
    counts: dict[str, int] = {}
    for name in _ORDER:
        frame = accepted.get(name)
        if frame is None:
            continue
        table = tables.metadata.tables[name]
        prepared = _prepared(name, frame, stamp)
        for start in range(0, prepared.height, _CHUNK):
            store.dialect.upsert(
                connection,
                table,
                prepared.slice(start, _CHUNK),
                only_if_changed=(schema.UPDATED_AT,) if name == "products" else (),
                mark=schema.CONTENT_HASH,
            )
        counts[name] = prepared.height
    return counts


def _prepared(name: str, frame: pl.DataFrame, stamp: int) -> pl.DataFrame:
    """Bring a canonical frame to the table's columns."""
    if name == "products":
        frame = frame.with_columns(pl.lit(stamp, pl.Int64).alias(schema.UPDATED_AT))
    if name == "events":
        key = [schema.USER_ID, schema.PRODUCT_ID, schema.EVENT_TYPE, schema.OCCURRED_AT, schema.ORDER_ID]
        frame = frame.with_columns(pl.col(schema.ORDER_ID).fill_null(""))
        if schema.LINE_NO not in frame.columns:
            frame = frame.with_columns(pl.int_range(pl.len()).over(key).cast(pl.Int32).alias(schema.LINE_NO))
    wanted = [column.name for column in tables.metadata.tables[name].columns if column.name in frame.columns]
    return sql_times(frame.select(wanted), (schema.OCCURRED_AT, schema.CREATED_AT, schema.UPDATED_AT))
