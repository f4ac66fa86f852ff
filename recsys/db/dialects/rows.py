"""Rows on their way into a table: in the order of its key, each key once, and found again by their run.

In: a table and a frame of its columns, or a connection. Out: the frame in order; SQL text; the runs in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

PIECE = 20_000
"""Rows of an old run deleted in one transaction: a writer waits for one such piece at most."""


def in_order(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Key order, where rows of one key keep theirs: SQLite inserts three times slower out of it."""
    key = [column.name for column in table.primary_key if column.name in frame.columns]
    if not key or _rises(frame, key):
        return frame
    return frame.sort(key, maintain_order=True)


def _rises(frame: pl.DataFrame, key: list[str]) -> bool:
    """Whether every row's key is above that of the row before; a third of the time that sorting takes."""
    above = pl.lit(value=False)
    for name in reversed(key):
        before = pl.col(name).shift(1)
        above = (pl.col(name) > before) | ((pl.col(name) == before) & above)
    return bool(frame.lazy().select(above.slice(1).all()).collect().item())


def last_of_each_key(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The last row of each key, in key order: PostgreSQL refuses to replace one row twice in one statement."""
    key = [column.name for column in table.primary_key]
    return in_order(table, frame.unique(key, keep="last", maintain_order=True))


def whole(frame: pl.DataFrame, same: Mapping[str, str] | None) -> pl.DataFrame:
    """The frame with the columns that are the same in every row."""
    return frame.with_columns(pl.lit(value).alias(name) for name, value in (same or {}).items())


def upsert_sql(table: sa.Table, columns: Sequence[str], values: str, only_if_changed: Sequence[str], mark: str) -> str:
    """INSERT ... ON CONFLICT, as SQLite and PostgreSQL know it; see `Dialect.upsert`."""
    key = [column.name for column in table.primary_key]
    sets = []
    for name in columns:
        if name in key:
            continue
        if name in only_if_changed:
            sets.append(
                f'"{name}" = CASE WHEN "{table.name}"."{mark}" IS DISTINCT FROM excluded."{mark}" '
                f'THEN excluded."{name}" ELSE "{table.name}"."{name}" END'
            )
        else:
            sets.append(f'"{name}" = excluded."{name}"')
    action = "UPDATE SET " + ", ".join(sets) if sets else "NOTHING"
    names = ", ".join(f'"{name}"' for name in columns)
    keys = ", ".join(f'"{name}"' for name in key)
    return f'INSERT INTO "{table.name}" ({names}) {values} ON CONFLICT ({keys}) DO {action}'  # noqa: S608 - names are our own tables


def runs_in(connection: Connection, table: sa.Table) -> list[str]:
    """The run ids in a table whose key begins with run_id: one step in its index each, however many rows they have."""
    found: list[str] = []
    least = sa.select(sa.func.min(table.c.run_id))
    last = connection.execute(least).scalar_one()
    while last is not None:
        found.append(last)
        last = connection.execute(least.where(table.c.run_id > last)).scalar_one()
    return found
