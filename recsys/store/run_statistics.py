"""Statistics of a run: list lengths, product counts, overlap with an earlier run, rejected rows.

In: a connection, run ids. Out: counts and small frames; rows are counted inside the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.schema import DEFAULT_USER
from recsys.store.recommendations import chunk_ids
from recsys.store.tables import publications, recommendations_all, rejected_rows, similar_products_all

_RECOMMENDATIONS = recommendations_all


@dataclass(frozen=True)
class RunExtent:
    """Size of a run without the default list: users, rows, and distinct products."""

    users: int
    rows: int
    products: int


def run_extent(connection: Connection, run_id: str, counts: pl.DataFrame) -> RunExtent:
    """Compute the size of a run of recommendations from its `product_counts`."""
    return RunExtent(full_list_count(connection, run_id, 1), int(counts["places"].sum()), counts.height)


def product_counts(connection: Connection, run_id: str) -> pl.DataFrame:
    """Count the occurrences of each product in a run: columns product_id, places; by id. Scans the run."""
    count = sa.func.count().label("places")
    user_rows = (_RECOMMENDATIONS.c.run_id == run_id, _RECOMMENDATIONS.c.user_id != DEFAULT_USER)
    query = sa.select(_RECOMMENDATIONS.c.product_id, count).where(*user_rows).group_by(_RECOMMENDATIONS.c.product_id)
    rows = sorted(tuple(row) for row in connection.execute(query))
    return pl.DataFrame(rows, schema={"product_id": pl.String, "places": pl.Int64}, orient="row")


def full_list_count(connection: Connection, run_id: str, k: int) -> int:
    """Return the number of lists of a run that have at least `k` products."""
    at_rank_k = (
        _RECOMMENDATIONS.c.run_id == run_id,
        _RECOMMENDATIONS.c.user_id != DEFAULT_USER,
        _RECOMMENDATIONS.c.rank == k,
    )
    return int(connection.execute(sa.select(sa.func.count()).where(*at_rank_k)).scalar_one())


def mean_list_overlap(
    connection: Connection, run_id: str, earlier_run_id: str, users: Sequence[str]
) -> tuple[float | None, int]:
    """Return the mean share of a user's earlier products kept in the later list, and the users it is over.

    Args:
        connection: an open connection.
        run_id: the later run.
        earlier_run_id: the earlier run.
        users: users to compare; users without a list in both runs are ignored.
    """
    products_by_run: dict[str, dict[str, set[str]]] = {run_id: {}, earlier_run_id: {}}
    for chunk in chunk_ids(users):
        query = sa.select(_RECOMMENDATIONS.c.run_id, _RECOMMENDATIONS.c.user_id, _RECOMMENDATIONS.c.product_id)
        query = query.where(
            _RECOMMENDATIONS.c.run_id.in_([run_id, earlier_run_id]), _RECOMMENDATIONS.c.user_id.in_(chunk)
        )
        for run, user, product in connection.execute(query):
            products_by_run[run].setdefault(user, set()).add(product)
    both = sorted(products_by_run[run_id].keys() & products_by_run[earlier_run_id].keys())
    shares = [
        len(products_by_run[run_id][user] & products_by_run[earlier_run_id][user])
        / len(products_by_run[earlier_run_id][user])
        for user in both
    ]
    return (sum(shares) / len(shares) if shares else None), len(both)


def previous_run(connection: Connection, placement: str) -> str | None:
    """Return the run published at a placement before the current one; None if there is none."""
    query = sa.select(publications.c.previous_run_id).where(publications.c.placement == placement)
    run_id = connection.execute(query).scalar()
    return None if run_id is None else str(run_id)


def published_neighbours(connection: Connection, products: Sequence[str], *, placement: str, k: int) -> pl.DataFrame:
    """Read published neighbours: product_id, rank, neighbour_id, score; by product and rank."""
    table = similar_products_all
    published = sa.select(publications.c.run_id).where(publications.c.placement == placement).scalar_subquery()
    rows: list[tuple[object, ...]] = []
    for chunk in chunk_ids(products):
        in_chunk = table.c.product_id.in_(chunk)
        query = sa.select(table.c.product_id, table.c.rank, table.c.neighbour_id, table.c.score)
        query = query.where(table.c.run_id == published, in_chunk, table.c.rank <= k)
        rows += [tuple(row) for row in connection.execute(query)]
    schema = {"product_id": pl.String, "rank": pl.Int64, "neighbour_id": pl.String, "score": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("product_id", "rank")


def rejected_row_counts(connection: Connection) -> pl.DataFrame:
    """Count rejected rows by source, table and code, most frequent first: source, table_name, code, rows."""
    columns = rejected_rows.c
    keys = (columns.source, columns.table_name, columns.code)
    rows = [tuple(row) for row in connection.execute(sa.select(*keys, sa.func.count()).group_by(*keys))]
    schema = {"source": pl.String, "table_name": pl.String, "code": pl.String, "rows": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.sort("rows", "table_name", "code", "source", descending=[True, False, False, False])


def example_rejected_row(connection: Connection, *, source: str, table_name: str, code: str) -> dict[str, Any]:
    """Return the first rejected row of a source, table and code listed by `rejected_row_counts`."""
    columns = rejected_rows.c
    matches = (columns.source == source, columns.table_name == table_name, columns.code == code)
    query = sa.select(rejected_rows).where(*matches).order_by(columns.row_no).limit(1)
    return dict(connection.execute(query).mappings().one())
