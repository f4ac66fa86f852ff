"""Looking at a run as a whole: how long its lists are, which products they show, how much of an earlier run they keep.

In: a connection, run ids. Out: counts and small frames; the rows are counted inside the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.schema import DEFAULT_USER
from recsys.store.recommendations import chunks
from recsys.store.tables import publications, recommendations_all, rejected_rows, similar_products_all

_LISTS = recommendations_all


@dataclass(frozen=True)
class RunExtent:
    """How much a run holds, without the list for users without history: users, rows, products that are listed."""

    users: int
    rows: int
    products: int


def extent(connection: Connection, run_id: str, shown: pl.DataFrame) -> RunExtent:
    """Count a run of recommendations; `shown` are its `product_counts`."""
    return RunExtent(full_list_count(connection, run_id, 1), int(shown["places"].sum()), shown.height)


def product_counts(connection: Connection, run_id: str) -> pl.DataFrame:
    """How often each product stands in a list of a run: product_id, places; by id. Reads all of it."""
    count = sa.func.count().label("places")
    here = (_LISTS.c.run_id == run_id, _LISTS.c.user_id != DEFAULT_USER)
    query = sa.select(_LISTS.c.product_id, count).where(*here).group_by(_LISTS.c.product_id)
    rows = sorted(tuple(row) for row in connection.execute(query))
    return pl.DataFrame(rows, schema={"product_id": pl.String, "places": pl.Int64}, orient="row")


def full_list_count(connection: Connection, run_id: str, k: int) -> int:
    """How many lists of a run have k places or more."""
    here = (_LISTS.c.run_id == run_id, _LISTS.c.user_id != DEFAULT_USER, _LISTS.c.rank == k)
    return int(connection.execute(sa.select(sa.func.count()).where(*here)).scalar_one())


def overlap(connection: Connection, run_id: str, before: str, users: Sequence[str]) -> tuple[float | None, int]:
    """Mean share of the products of a user's earlier list that are in the later one, and over how many users.

    Args:
        connection: an open connection.
        run_id: the later run.
        before: the earlier run.
        users: those to look at; who is not in both runs does not count.
    """
    held: dict[str, dict[str, set[str]]] = {run_id: {}, before: {}}
    for some in chunks(users):
        query = sa.select(_LISTS.c.run_id, _LISTS.c.user_id, _LISTS.c.product_id)
        query = query.where(_LISTS.c.run_id.in_([run_id, before]), _LISTS.c.user_id.in_(some))
        for run, user, product in connection.execute(query):
            held[run].setdefault(user, set()).add(product)
    both = sorted(held[run_id].keys() & held[before].keys())
    shares = [len(held[run_id][user] & held[before][user]) / len(held[before][user]) for user in both]
    return (sum(shares) / len(shares) if shares else None), len(both)


def previous_run(connection: Connection, placement: str) -> str | None:
    """The run that was published at a placement before the one that is now; None where there was none."""
    query = sa.select(publications.c.previous_run_id).where(publications.c.placement == placement)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def neighbours(connection: Connection, products: Sequence[str], *, placement: str, k: int) -> pl.DataFrame:
    """The published neighbours of some products: product_id, rank, neighbour_id, score; by product and rank."""
    table = similar_products_all
    run = sa.select(publications.c.run_id).where(publications.c.placement == placement).scalar_subquery()
    rows: list[tuple[object, ...]] = []
    for some in chunks(products):
        asked = table.c.product_id.in_(some)
        query = sa.select(table.c.product_id, table.c.rank, table.c.neighbour_id, table.c.score)
        query = query.where(table.c.run_id == run, asked, table.c.rank <= k)
        rows += [tuple(row) for row in connection.execute(query)]
    kinds = {"product_id": pl.String, "rank": pl.Int64, "neighbour_id": pl.String, "score": pl.Float64}
    return pl.DataFrame(rows, schema=kinds, orient="row").sort("product_id", "rank")


def rejected_row_counts(connection: Connection) -> pl.DataFrame:
    """Rejected rows by source, table and code, the commonest first: source, table_name, code, rows."""
    held = rejected_rows.c
    by = (held.source, held.table_name, held.code)
    rows = [tuple(row) for row in connection.execute(sa.select(*by, sa.func.count()).group_by(*by))]
    kinds = {"source": pl.String, "table_name": pl.String, "code": pl.String, "rows": pl.Int64}
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    return frame.sort("rows", "table_name", "code", "source", descending=[True, False, False, False])


def example(connection: Connection, *, source: str, table_name: str, code: str) -> dict[str, Any]:
    """The first rejected row of a kind that `rejected_row_counts` has told."""
    held = rejected_rows.c
    here = (held.source == source, held.table_name == table_name, held.code == code)
    query = sa.select(rejected_rows).where(*here).order_by(held.row_no).limit(1)
    return dict(connection.execute(query).mappings().one())
