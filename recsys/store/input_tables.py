"""Write accepted input rows, and keep rejected rows with their reasons.

In: canonical frames (times as UTC seconds) and rejected rows. Out: rows in products, users, events, rejected_rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import sqlalchemy as sa

from recsys.data import schema
from recsys.data.parsing import times
from recsys.db.dialects import sql_times
from recsys.execution.failpoints import failpoint
from recsys.store import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from recsys.store.store import Store

_WRITE_ORDER = ("products", "users", "events")
_UPSERT_ROWS = 200_000
"""Rows of one upsert."""
_SCAN_ROWS = 50_000
"""Rows of the store compared with a source at a time."""
_KEY_COLUMNS = {
    "products": (schema.PRODUCT_ID,),
    "users": (schema.USER_ID,),
    "events": (
        schema.USER_ID, schema.OCCURRED_AT, schema.PRODUCT_ID, schema.EVENT_TYPE, schema.ORDER_ID, schema.LINE_NO,
    ),
}  # fmt: skip
_INTEGER_KEYS = frozenset({schema.OCCURRED_AT, schema.LINE_NO})


def write_inputs(
    store: Store,
    accepted: dict[str, pl.DataFrame],
    rejected: pl.DataFrame,
    *,
    sources: Sequence[str],
    image_files: Mapping[str, str] | None = None,
    replace: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> dict[str, int]:
    """Insert or replace accepted rows by key, and replace rejected rows by source, in one transaction.

    Args:
        store: the store.
        accepted: canonical frames by table name; `occurred_at` and `created_at` are Int64 UTC seconds.
        rejected: columns schema.REJECTED_COLUMNS.
        sources: inputs the rows were read from; reading a source again replaces its rejected rows.
        image_files: stored products that have an image file now: product id to file name.
        replace: tables of which no other stored row stays: events and users are deleted, products that are not among
            the accepted ones become unavailable.
        keep: columns of events that the sources lack; events that are stored keep their values.

    Returns:
        Rows deleted, and products that became unavailable, by table of `replace`.
    """
    with store.engine.begin() as connection:
        stamp = store.dialect.now(connection)
        removed = {name: _replace_rows(connection, name, accepted.get(name), stamp) for name in replace}
        write_rows(store, connection, accepted, int(stamp.timestamp()), keep)
        if image_files:
            products = tables.products
            set_image = (
                sa.update(products)
                .where(products.c.product_id == sa.bindparam("id"))
                .values(image=sa.bindparam("file"))
            )
            connection.execute(
                set_image, [{"id": product_id, "file": file} for product_id, file in image_files.items()]
            )
        connection.execute(sa.delete(tables.rejected_rows).where(tables.rejected_rows.c.source.in_(sources)))
        store.dialect.bulk_load(connection, tables.rejected_rows, rejected)
        failpoint("store.inputs.commit.before")
    failpoint("store.inputs.commit.after")
    return removed


def _replace_rows(connection: Connection, name: str, accepted: pl.DataFrame | None, stamp: datetime) -> int:
    """Delete the rows of events or users, or make products unavailable that are not among the accepted rows."""
    table = tables.metadata.tables[name]
    if name != "products":
        return connection.execute(sa.delete(table)).rowcount
    column = table.c.product_id
    available = connection.execute(sa.select(column).where(table.c.available.isnot(sa.false()))).scalars().all()
    remaining = set() if accepted is None else set(accepted[schema.PRODUCT_ID].to_list())
    gone = [product_id for product_id in available if product_id not in remaining]
    update = sa.update(table).where(column == sa.bindparam("id")).values(available=False, updated_at=stamp)
    if gone:
        connection.execute(update, [{"id": product_id} for product_id in gone])
    return len(gone)


def key_hashes(table: str, rows: pl.DataFrame) -> npt.NDArray[np.uint64]:
    """Hash the keys of canonical rows, equal for rows of a source and of the store: (n,) uint64."""
    columns = [pl.col(name).cast(pl.Int64 if name in _INTEGER_KEYS else pl.String) for name in _KEY_COLUMNS[table]]
    return rows.select(columns).hash_rows(seed=0).to_numpy()


def remove_unlisted_rows(store: Store, listed: Mapping[str, npt.NDArray[np.uint64]]) -> dict[str, int]:
    """Remove what a complete source does not have, in one transaction.

    Events and users are deleted, products become unavailable.

    Args:
        store: the store.
        listed: table to `key_hashes` of all rows of the source.

    Returns:
        Rows removed by table.
    """
    removed: dict[str, int] = {}
    with store.engine.begin() as connection:
        stamp = store.dialect.now(connection)
        for name, hashes in listed.items():
            table, keys = tables.metadata.tables[name], _KEY_COLUMNS[name]
            known = np.unique(hashes)
            selected = sa.select(*[table.c[key] for key in keys])
            if name == "products":
                selected = selected.where(table.c.available.isnot(sa.false()))
            unlisted: list[dict[str, Any]] = []
            result = connection.execution_options(yield_per=_SCAN_ROWS).execute(selected)
            for block in result.partitions(_SCAN_ROWS):
                rows = [tuple(row) for row in block]
                frame = pl.DataFrame(rows, schema=list(keys), orient="row", infer_schema_length=None)
                epochs = [times(frame[key])[0].alias(key) for key in keys if key == schema.OCCURRED_AT]
                is_listed = np.isin(key_hashes(name, frame.with_columns(epochs)), known)
                missing = frame.filter(pl.Series(~is_listed)).rename({key: f"key_{key}" for key in keys})
                unlisted += missing.iter_rows(named=True)
            condition = sa.and_(*[table.c[key] == sa.bindparam(f"key_{key}") for key in keys])
            if name == "products":
                statement: sa.Update | sa.Delete = (
                    sa.update(table).where(condition).values(available=False, updated_at=stamp)
                )
            else:
                statement = sa.delete(table).where(condition)
            if unlisted:
                connection.execution_options(yield_per=None).execute(statement, unlisted)
            removed[name] = len(unlisted)
    return removed


def write_rows(
    store: Store,
    connection: Connection,
    accepted: Mapping[str, pl.DataFrame],
    stamp: int,
    keep: Sequence[str] = (),
) -> dict[str, int]:
    """Insert or replace accepted rows by key in the open transaction; return rows written by table.

    Stored events keep the columns `keep`.
    """
    counts: dict[str, int] = {}
    for name in _WRITE_ORDER:
        frame = accepted.get(name)
        if frame is None:
            continue
        table = tables.metadata.tables[name]
        prepared = _prepare_frame(name, frame, stamp)
        for start in range(0, prepared.height, _UPSERT_ROWS):
            store.dialect.upsert(
                connection,
                table,
                prepared.slice(start, _UPSERT_ROWS),
                only_if_changed=(schema.UPDATED_AT,) if name == "products" else (),
                hash_column=schema.CONTENT_HASH,
                keep=keep if name == "events" else (),
            )
        counts[name] = prepared.height
    return counts


def _prepare_frame(name: str, frame: pl.DataFrame, stamp: int) -> pl.DataFrame:
    """Convert a canonical frame to the table's columns."""
    if name == "products":
        frame = frame.with_columns(pl.lit(stamp, pl.Int64).alias(schema.UPDATED_AT))
    if name == "events":
        key = [schema.USER_ID, schema.PRODUCT_ID, schema.EVENT_TYPE, schema.OCCURRED_AT, schema.ORDER_ID]
        frame = frame.with_columns(pl.col(schema.ORDER_ID).fill_null(""))
        if schema.LINE_NO not in frame.columns:
            frame = frame.with_columns(pl.int_range(pl.len()).over(key).cast(pl.Int32).alias(schema.LINE_NO))
    columns = [column.name for column in tables.metadata.tables[name].columns if column.name in frame.columns]
    return sql_times(frame.select(columns), (schema.OCCURRED_AT, schema.CREATED_AT, schema.UPDATED_AT))
