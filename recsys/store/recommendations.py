"""Read published recommendations.

In: a connection, user ids. Out: a frame of the published lists; users without a list get the default list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.schema import DEFAULT_USER
from recsys.errors import UsageError
from recsys.store.tables import recommendations_all

IDS_PER_QUERY = 500
"""Ids in one query: below SQLite's limit on parameters."""
_SCHEMA = {
    "user_id": pl.String,
    "rank": pl.Int64,
    "product_id": pl.String,
    "score": pl.Float64,
    "reason": pl.String,
    "reason_product_id": pl.String,
}


def chunk_ids(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ids in chunks of `IDS_PER_QUERY`."""
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield list(ids[start : start + IDS_PER_QUERY])


def published_recommendations(
    connection: Connection, users: Sequence[str] | None, *, placement: str, k: int | None
) -> pl.DataFrame:
    """Read published lists: user_id, rank, product_id, score, reason, reason_product_id.

    Args:
        connection: an open connection; all queries run in one transaction.
        users: ids in the order of the result; None reads all stored lists, including `__default__`. Users without a
            list get the rows of `__default__` under their own id.
        placement: placement of the lists.
        k: maximum number of products per list.

    Raises:
        UsageError: an id contains a character that ids cannot contain.
    """
    for user in users or ():
        if "\0" in user or not _is_encodable(user):
            raise UsageError(f"user id {user!r} holds a NUL or half a character, which no id can; correct the id")
    view = sa.table("recommendations", *(sa.column(name) for name in (*_SCHEMA, "placement")))
    query = sa.select(*(view.c[name] for name in _SCHEMA)).where(view.c.placement == placement)
    if k is not None:
        query = query.where(view.c.rank <= k)
    if users is None:
        return _to_frame(connection.execute(query.order_by(view.c.user_id, view.c.rank)).all())
    requested = list(dict.fromkeys(users))
    query_ids = list(dict.fromkeys((*requested, DEFAULT_USER)))
    rows: list[Any] = []
    for chunk in chunk_ids(query_ids):
        rows += connection.execute(query.where(view.c.user_id.in_(chunk))).all()
    lists = _to_frame(rows)
    default_list = lists.filter(pl.col("user_id") == DEFAULT_USER)
    order = pl.DataFrame({"user_id": requested}, schema={"user_id": pl.String}).with_row_index("asked")
    user_lists = lists.join(order, on="user_id")
    defaults = order.join(user_lists, on="user_id", how="anti").join(default_list.drop("user_id"), how="cross")
    merged = pl.concat([user_lists, defaults.select(user_lists.columns)]).sort("asked", "rank")
    return merged.select(*_SCHEMA)


def users_with_lists(connection: Connection, run_id: str, first: str, last: str, *, placement: str) -> set[str]:
    """Return the ids of users with a list in a run, from `first` to `last` in id order."""
    table = recommendations_all
    first_ranks = (table.c.run_id == run_id, table.c.placement == placement, table.c.rank == 1)
    in_range = (table.c.user_id >= first, table.c.user_id <= last)
    return set(connection.execute(sa.select(table.c.user_id).where(*first_ranks, *in_range)).scalars())


def users_with_products(connection: Connection, run_id: str, products: Sequence[str]) -> list[str]:
    """Return the ids of users whose list in a run has any of the products, ascending; scans the run."""
    table = recommendations_all
    users: set[str] = set()
    for chunk in chunk_ids(products):
        in_chunk = table.c.product_id.in_(chunk)
        users |= set(connection.execute(sa.select(table.c.user_id).where(table.c.run_id == run_id, in_chunk)).scalars())
    return sorted(users)


def _is_encodable(text: str) -> bool:
    """Return whether the text can be encoded as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame([tuple(row) for row in rows], schema=_SCHEMA, orient="row")
