"""Reading the lists that consumers read.

In: a connection, user ids. Out: a frame of the published lists, with the default list for users who have none.
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

ASKED = 500
"""Ids in one query: below SQLite's limit on parameters."""
_KINDS = {
    "user_id": pl.String,
    "rank": pl.Int64,
    "product_id": pl.String,
    "score": pl.Float64,
    "reason": pl.String,
    "reason_product_id": pl.String,
}


def chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    """The ids, `ASKED` at a time."""
    for start in range(0, len(ids), ASKED):
        yield list(ids[start : start + ASKED])


def published_recommendations(
    connection: Connection, users: Sequence[str] | None, *, placement: str, k: int | None
) -> pl.DataFrame:
    """The published lists: user_id, rank, product_id, score, reason, reason_product_id.

    Args:
        connection: an open connection; all queries run in its one transaction.
        users: whose lists, in the order wanted; None for all that are stored, `__default__` among them. Users without
            a list of their own get the rows of `__default__` under their own id.
        placement: which lists.
        k: at most this many products each.

    Raises:
        UsageError: an id holds a character that no id can have.
    """
    for user in users or ():
        if "\0" in user or not _is_text(user):
            raise UsageError(f"user id {user!r} holds a NUL or half a character, which no id can; mend it")
    view = sa.table("recommendations", *(sa.column(name) for name in (*_KINDS, "placement")))
    query = sa.select(*(view.c[name] for name in _KINDS)).where(view.c.placement == placement)
    if k is not None:
        query = query.where(view.c.rank <= k)
    if users is None:
        return _frame(connection.execute(query.order_by(view.c.user_id, view.c.rank)).all())
    wanted = list(dict.fromkeys(users))
    asked = list(dict.fromkeys((*wanted, DEFAULT_USER)))
    rows: list[Any] = []
    for some in chunks(asked):
        rows += connection.execute(query.where(view.c.user_id.in_(some))).all()
    lists = _frame(rows)
    default = lists.filter(pl.col("user_id") == DEFAULT_USER)
    order = pl.DataFrame({"user_id": wanted}, schema={"user_id": pl.String}).with_row_index("asked")
    own = lists.join(order, on="user_id")
    others = order.join(own, on="user_id", how="anti").join(default.drop("user_id"), how="cross")
    both = pl.concat([own, others.select(own.columns)]).sort("asked", "rank")
    return both.select(*_KINDS)


def listed_users(connection: Connection, run_id: str, first: str, last: str, *, placement: str) -> set[str]:
    """Ids of the users with a list in a run, from `first` to `last` in the order of ids."""
    table = recommendations_all
    here = (table.c.run_id == run_id, table.c.placement == placement, table.c.rank == 1)
    within = (table.c.user_id >= first, table.c.user_id <= last)
    return set(connection.execute(sa.select(table.c.user_id).where(*here, *within)).scalars())


def users_with_products(connection: Connection, run_id: str, products: Sequence[str]) -> list[str]:
    """Ids of the users whose list in a run holds one of some products, ascending; reads the whole run."""
    table = recommendations_all
    found: set[str] = set()
    for some in chunks(products):
        held = table.c.product_id.in_(some)
        found |= set(connection.execute(sa.select(table.c.user_id).where(table.c.run_id == run_id, held)).scalars())
    return sorted(found)


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame([tuple(row) for row in rows], schema=_KINDS, orient="row")
