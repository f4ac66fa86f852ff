"""A shop's own tables on each kind of database, and projects that read them.

In: the URL of an empty database. Out: tables with names of the shop's own, filled with drawn rows; a project.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recsys.config import read
from recsys.db.engine import connect, fetch_rows
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from recsys.store.store import Store

PRODUCTS = "SELECT sku AS product_id, name AS title, changed AS updated_at FROM article WHERE changed >= :since"
EVENTS = (
    "SELECT customer AS user_id, sku AS product_id, sold AS occurred_at, pieces AS quantity, bill AS order_id "
    "FROM sale WHERE sold >= :since"
)
USERS = "SELECT DISTINCT customer AS user_id FROM sale"
START = 1_700_000_000
DAY = 86_400
"""`:since` of the first reading compares with every row; the drawn events begin at START."""


def text(seconds: int) -> str:
    """UTC seconds as the shop writes them."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def open_shop(url: str, *, products: int = 5) -> None:
    """Make the shop's tables and its products."""
    engine = connect(url)
    kind = {"postgresql": "TIMESTAMPTZ", "mysql": "DATETIME(6)"}.get(engine.dialect.name, "TEXT")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE article (sku TEXT, name TEXT, changed {kind})")
        connection.exec_driver_sql(
            f"CREATE TABLE sale (customer TEXT, sku TEXT, sold {kind}, pieces INTEGER, bill TEXT)"
        )
    for number in range(products):
        add(url, "article", [(f"p{number}", f"Product {number}", text(START))])
    engine.dispose()


def add(url: str, table: str, made: list[tuple[Any, ...]]) -> None:
    """Put rows into a table of the shop."""
    engine = connect(url)
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    with engine.begin() as connection:
        values = ", ".join([mark] * len(made[0]))
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({values})", made)
    engine.dispose()


def sales(count: int, *, start: int = START, step: int = 600) -> list[tuple[Any, ...]]:
    """Sales in no order: some share user, product and second, some name no product, one has no number of pieces."""
    out: list[tuple[Any, ...]] = []
    for number in range(count):
        second = start + number // 3 * step  # three a second
        sku = "gone" if number % 11 == 7 else f"p{number // 2 % 5}"
        out.append((f"u{number // 6 % 4}", sku, text(second), number % 3 + 1 if number % 13 else -1, ""))
    return out[1::2] + out[::2]


def open_project(folder: Path, shop: str, store: str = "", **settings: Any) -> Project:
    """A project that reads the shop; its store is made when it is not there."""
    url = store or f"sqlite:///{folder / 'store.db'}"
    flags: Mapping[str, Any] = {
        "database.url": url,
        "source.url": shop,
        "source.products_query": PRODUCTS,
        "source.events_query": EVENTS,
        "data.max_bad_fraction": 1,
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    made = Project(read(folder, flags=flags).settings)
    with Store.open(url, lease=True) as opened:
        opened.init()
    return made


def taken(folder: Path, shop: str, store: str = "", *, full: bool = False, **settings: Any) -> CommandResult:
    """Ingest once."""
    with open_project(folder, shop, store, **settings) as opened:
        return ingest(opened, IngestRequest.from_options((), sql=True, full=full))


def held(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """What a store holds of what was read."""
    engine = connect(url)
    try:
        asked = {
            "products": "SELECT product_id, title FROM products ORDER BY 1",
            "events": "SELECT user_id, CAST(occurred_at AS TEXT), product_id, event_type, order_id, line_no, quantity "
            "FROM events ORDER BY 1, 2, 3, 4, 5, 6",
            "rejected": "SELECT source, row_no, code, value_excerpt FROM rejected_rows ORDER BY 1, 2",
            "marks": "SELECT source, CAST(newest AS TEXT), CAST(reached AS TEXT), CAST(counts AS TEXT) "
            "FROM source_marks ORDER BY 1",
        }
        words = "CHAR" if engine.dialect.name == "mysql" else "TEXT"
        return {name: fetch_rows(engine, query.replace("AS TEXT", f"AS {words}")) for name, query in asked.items()}
    finally:
        engine.dispose()


def asked(url: str, query: str) -> list[sa.Row[Any]]:
    """Rows of a small SELECT."""
    engine = connect(url)
    try:
        return fetch_rows(engine, query)  # type: ignore[return-value]
    finally:
        engine.dispose()
