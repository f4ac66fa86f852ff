"""What is particular about MySQL and MariaDB: ids, literals, complaints, and the one run at work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from recsys.db.dialects import mysql
from recsys.db.engine import connect, fetch_rows, read_frame
from recsys.errors import ConfigError, DatabaseUnavailableError, DataContractError, UsageError
from recsys.store import tables
from recsys.store.store import Store
from tests.store.samples import execute

TWINS = ["a", "A", "a ", "á", "a\u0301", "ß", "ss", "007", "7", "\\", "'", '"', "%s", "a\nb", "x\0y", "\x1a", "😀"]


@pytest.fixture
def store(mariadb_url: str) -> Iterator[Store]:
    with Store.open(mariadb_url) as opened:
        opened.init()
        yield opened


def test_ids_that_look_alike_stay_apart(store: Store) -> None:
    frame = pl.DataFrame({"product_id": TWINS, "title": [f"{name}'{name}" for name in TWINS]})
    with store.engine.begin() as connection:
        store.dialect.bulk_load(connection, tables.products, frame)
        store.dialect.upsert(connection, tables.products, frame.with_columns(price=0.1))
    found = read_frame(store.engine, "SELECT product_id, title, price FROM products")
    assert sorted(found.rows()) == sorted((name, f"{name}'{name}", 0.1) for name in TWINS)
    for name in TWINS:
        query = "SELECT product_id FROM products WHERE product_id = :name"
        assert fetch_rows(store.engine, query, {"name": name}) == [(name,)]


def test_many_rows_need_more_than_one_statement(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "_STATEMENT_BYTES", 300)
    monkeypatch.setattr(mysql, "_BLOCK_ROWS", 70)
    n = 200
    frame = pl.DataFrame(
        {
            "product_id": [f"p{number:03d}" for number in range(n)],
            "model_version": ["m"] * n,
            "content_hash": ["h"] * n,
            "dim": range(n),
            "vector": [bytes(range(number % 7)) for number in range(n)],
        }
    )
    with store.engine.begin() as connection:
        store.dialect.bulk_load(connection, tables.product_embeddings, frame.reverse())
    assert fetch_rows(store.engine, "SELECT * FROM product_embeddings ORDER BY 1", {}) == frame.rows()


def test_what_cannot_be_kept_is_refused(store: Store) -> None:
    long, just = "ü" * 191, "ü" * 190
    with store.engine.begin() as connection:
        with pytest.raises(DataContractError, match=r"products: product_id 'ü+'... has 191 characters.* at most 190"):
            store.dialect.upsert(connection, tables.products, pl.DataFrame({"product_id": [just, long]}))
        with pytest.raises(DataContractError, match="products: price is infinite"):
            store.dialect.upsert(
                connection, tables.products, pl.DataFrame({"product_id": ["a"], "price": [float("inf")]})
            )
        store.dialect.upsert(connection, tables.products, pl.DataFrame({"product_id": [just], "title": [long * 400]}))
    assert fetch_rows(store.engine, "SELECT product_id, CHAR_LENGTH(title) FROM products", {}) == [(just, 191 * 400)]


def test_one_run_at_work_a_placement(store: Store) -> None:
    def begin(run_id: str, state: str) -> None:
        query = "INSERT INTO runs (run_id, kind, placement, state) VALUES (:run, 'recommend', 'x', :state)"
        execute(store, query, run=run_id, state=state)

    begin("1", "building")
    begin("2", "failed")
    begin("3", "failed")
    with pytest.raises(sa.exc.IntegrityError):
        begin("4", "building")


def test_complaints_say_what_to_do(mariadb_server: Path, mariadb_url: str) -> None:
    with pytest.raises(ConfigError, match="nowhere.*create the database"):
        connect(f"mysql://root@localhost/nowhere?unix_socket={mariadb_server}")
    with pytest.raises(ConfigError, match="Access denied.*check user and password"):
        connect(f"mysql://nobody:hunter2@localhost/nowhere?unix_socket={mariadb_server}")
    with pytest.raises(DatabaseUnavailableError) as away:
        connect("mysql://me:hunter2@127.0.0.1:1/shop")
    assert away.value.exit_code == 75
    assert "hunter2" not in str(away.value)
    reader = connect(mariadb_url, read_only=True)
    with pytest.raises(UsageError, match="the connection is read-only"), reader.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INT)")
    assert fetch_rows(reader, 'SELECT "text" AS words', {}) == [("text",)]  # a shop's query in the server's own mode
    reader.dispose()


def test_a_session_that_the_server_ends_is_temporary(mariadb_url: str) -> None:
    engine, other = connect(mariadb_url), connect(mariadb_url)
    with pytest.raises(DatabaseUnavailableError) as ended, engine.begin() as connection:
        number = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        with other.begin() as killer:
            killer.exec_driver_sql(f"KILL {number}")
        connection.exec_driver_sql("SELECT 1")
    assert ended.value.exit_code == 75
    assert fetch_rows(engine, "SELECT 1", {}) == [(1,)]
    engine.dispose()
    other.dispose()
