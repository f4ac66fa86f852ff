"""Bad input of stores and ids: each ends with its exit code and one clear line, and leaves what was there.

In: odd databases, ids and numbers. Out: what the program says of them, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest

import recsys as program
from recsys.config import IndexSettings, PublishSettings
from recsys.data.id_map import IdMap
from recsys.db.dialects.postgres import Postgres
from recsys.db.dialects.sqlite import Sqlite
from recsys.db.engine import connect, fetch_rows
from recsys.errors import DataContractError, RecsysError, UsageError
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index.cache import open_index
from tests.e2e import projects
from tests.faults.invariants import check
from tests.faults.night import night, stock
from tests.recommend import shops
from tests.vectors.shops import StubModel, catalogue

BIG = [2**63 - 1, 2**63, 2**64 - 1]
PRODUCTS = "product_id,title\np1,red shoe\np2,blue hat\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return projects.new_project(tmp_path / "project", settings="[data]\nmax_bad_fraction = 0.9\n")


def _ids(project: Path) -> set[str]:
    return {name for (name,) in projects.rows(project, "SELECT product_id FROM products")}


# --- stores


def test_a_store_of_a_newer_schema_is_left_alone(database_url: str) -> None:
    with Store.open(database_url) as store:
        newest = store.init()
        night(store, "a")
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE recsys_schema SET version_num = '9999'")
    for lease in (True, False):
        with pytest.raises(RecsysError, match="schema 9999, which this recsys does not know; install the newer") as no:
            Store.open(database_url, lease=lease)
        assert no.value.exit_code == 1
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE recsys_schema SET version_num = '{newest}'")
    engine.dispose()
    Store.open(database_url).close()  # and it left no lease behind


@pytest.mark.parametrize("command", [["check"], ["recommend"], ["run"], ["runs", "list"], ["publish"], ["init"]])
def test_every_command_says_that_the_store_is_newer(project: Path, command: list[str]) -> None:
    with sqlite3.connect(project / "recsys.db") as connection:
        connection.execute("UPDATE recsys_schema SET version_num = '9999'")
    connection.close()
    outcome = projects.run_recsys(*command, "-C", project, "--json")
    assert outcome.code == 1
    assert "schema 9999" in outcome.document["error"]


def test_a_database_that_may_only_be_read_on_postgresql(postgres_url: str) -> None:
    with Store.open(postgres_url) as store:
        night(store, "a")
        lists = check(postgres_url)
        name = store.engine.url.database
        with store.engine.begin() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with Store.open(postgres_url) as store:
        for write in (lambda: night(store, "bb"), lambda: store.begin_run("recommend", RunManifest("m", "d", "c"))):
            with pytest.raises(UsageError, match="read-only transaction; the connection is read-only") as no:
                write()
            assert no.value.exit_code == 2
        assert store.recommendations().height == len(lists)
    assert check(postgres_url) == lists


def test_a_disk_that_may_only_be_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, and to whoever runs as root all files may be written")
    try:
        project = projects.new_project(disk / "project")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for command in (["check"], ["recommend"], ["rollback"], ["runs", "prune"]):
            outcome = projects.run_recsys(*command, "-C", project, "--json")
            assert outcome.code == 2
            assert (
                "unable to open database file; check that the folder exists and is writable"
                in (outcome.document["error"])
            )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_vanished_client_is_noticed_by_the_server(postgres_url: str) -> None:
    """Its lease ends with its connection: at once when the process dies (test_kills), in a minute with its machine."""
    engine = connect(postgres_url)
    query = "SELECT COUNT(*) FROM pg_settings WHERE name LIKE 'tcp_keepalives_%' AND source = 'session'"
    assert fetch_rows(engine, query) == [(3,)]
    engine.dispose()


def test_a_clock_that_jumps_back_leaves_runs_in_their_order(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [0, -3600, 86_400 * 400, -86_400 * 30, 5]
    start = datetime(2026, 3, 1, tzinfo=UTC)
    made = []
    with Store.open(database_url) as store:
        store.init()
        for version, shift in zip(("a", "bb", "ccc", "a", "bb"), moments, strict=True):
            for dialect in (Sqlite, Postgres):
                monkeypatch.setattr(dialect, "now", lambda *_, shift=shift: start + timedelta(seconds=shift))
            made.append(night(store, version))
            check(database_url)
            assert {run for (run,) in fetch_rows(store.engine, "SELECT run_id FROM recommendations", {})} == {made[-1]}
        assert made == sorted(set(made))
        assert store.rollback() == made[-2]
    check(database_url, settled=True)


# --- a shop's own tables


@contextmanager
def _shop(folder: Path, *statements: str) -> Iterator[str]:
    connection = sqlite3.connect(folder / "shop.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    yield f"sqlite:///{folder / 'shop.db'}"


def _from_sql(project: Path, url: str, query: str) -> projects.Outcome:
    return projects.run_recsys("ingest", "--from-sql", url, "--products-query", query, "-C", project, "--json")


def test_names_with_quotes_and_statements_in_them(project: Path, tmp_path: Path) -> None:
    table = '"my ""odd"" \'table\'; DROP TABLE x"'
    with _shop(
        tmp_path, f'CREATE TABLE {table} ("product id" TEXT)', f"INSERT INTO {table} VALUES ('p1''; --')"
    ) as url:
        assert _from_sql(project, url, f'SELECT "product id" AS product_id FROM {table}').code == 0
        assert _ids(project) == {"p1'; --"}
        for query, said in (
            (f"DELETE FROM {table} RETURNING 1 AS product_id", "readonly database"),
            (f"SELECT 'x' AS product_id; DELETE FROM {table}", "one statement at a time"),
            ("SELECT 'x' AS product_id FROM nowhere", "no such table"),
        ):
            refused = _from_sql(project, url, query)
            assert refused.code == 2, refused.err
            assert said in refused.document["error"]
        assert _from_sql(project, url, f'SELECT "product id" AS product_id FROM {table}').code == 0


def test_names_with_quotes_on_postgresql(project: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute('CREATE TABLE "o""dd; --" ("Product ID" NUMERIC)')
        connection.execute(f'INSERT INTO "o""dd; --" VALUES ({2**63 - 1}), ({2**63}), ({2**64})')
    assert _from_sql(project, postgres_url, 'SELECT "Product ID" AS product_id FROM "o""dd; --"').code == 0
    assert _ids(project) == {str(2**63 - 1), str(2**63), str(2**64)}
    for query, said in (
        ('DELETE FROM "o""dd; --" RETURNING "Product ID" AS product_id', "syntax error"),  # no cursor for a DELETE
        ('WITH x AS (DELETE FROM "o""dd; --" RETURNING 1 AS product_id) SELECT * FROM x', "the database refuses"),
        ('SELECT 1 AS product_id; DELETE FROM "o""dd; --"', "the database refuses"),
    ):
        refused = _from_sql(project, postgres_url, query)
        assert refused.code == 2 and said in refused.document["error"], refused.document
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute('SELECT COUNT(*) FROM "o""dd; --"').fetchone() == (3,)


def test_a_text_in_a_shops_table_that_is_no_text(project: Path, tmp_path: Path) -> None:
    rows_of = "INSERT INTO items VALUES ('ok'), (CAST(x'eda080' AS TEXT))"
    with _shop(tmp_path, "CREATE TABLE items (product_id TEXT)", rows_of) as url:
        outcome = _from_sql(project, url, "SELECT product_id FROM items")
    assert outcome.code == 0
    assert outcome.document["counts"]["products"]["rejected_by"] == {"bad_row": 1}
    assert "product_id holds bytes that are no UTF-8 text" in outcome.document["warnings"][0]
    assert _ids(project) == {"ok"}


# --- ids


@pytest.mark.parametrize("shape", ["csv", "jsonl", "frame", "objects", "sql"])
def test_large_numbers_as_ids_stay_what_they_are(project: Path, tmp_path: Path, shape: str) -> None:
    numbers = BIG if shape == "frame" else [2**63, 2**64] if shape == "objects" else [*BIG, 2**64]
    wanted = {str(number) for number in numbers}
    if shape in ("csv", "jsonl"):
        lines = [f'{{"product_id":{number}}}' for number in numbers] if shape == "jsonl" else ["product_id", *wanted]
        (tmp_path / f"products.{shape}").write_text("\n".join(lines) + "\n")
        done = projects.run_recsys("ingest", tmp_path / f"products.{shape}", "--as", "products", "-C", project)
        assert done.code == 0, done.err
    elif shape == "sql":
        wanted = {str(2**63 - 1), str(-(2**63))}
        with _shop(tmp_path, "CREATE TABLE t (id INT)", f"INSERT INTO t VALUES ({2**63 - 1}), ({-(2**63)})") as url:
            assert _from_sql(project, url, "SELECT id AS product_id FROM t").code == 0
    else:
        frame = {"product_id": pl.Series(BIG, dtype=pl.UInt64) if shape == "frame" else numbers}
        with program.open(project) as shop:
            shop.ingest(products=pl.DataFrame(frame) if shape == "frame" else frame)
    assert _ids(project) == wanted


def test_broken_characters_in_ids_are_rejected_and_counted(project: Path, tmp_path: Path) -> None:
    (tmp_path / "nul.csv").write_bytes(b"product_id,title\na\0b,x\nok,y\n")
    (tmp_path / "bytes.csv").write_bytes(b"product_id,title\na\xed\xa0\x80b,x\ngood,y\n")
    (tmp_path / "escaped.jsonl").write_text(
        '{"product_id":"a\\ud800b"}\n{"product_id":"fine"}\n{"product_id":"c\\u0000d"}\n'
    )
    for name in ("nul.csv", "bytes.csv", "escaped.jsonl"):
        outcome = projects.run_recsys("ingest", tmp_path / name, "--as", "products", "-C", project, "--json")
        assert outcome.code == 0, outcome.err
        held = outcome.document["counts"]["products"]
        assert held["rows_in"] == held["used"] + held["rejected"] + held["filtered"]
        assert held["used"] == 1
    assert _ids(project) == {"ok", "good", "fine"}
    codes = projects.rows(project, "SELECT code FROM rejected_rows ORDER BY source, row_no")
    assert sorted(code for (code,) in codes) == ["bad_row", "bad_row", "nul_in_text", "nul_in_text"]
    with program.open(project) as shop, pytest.raises(UsageError, match="surrogates not allowed"):
        shop.ingest(products={"product_id": ["a\ud800"]})
    assert _ids(project) == {"ok", "good", "fine"}


def test_odd_ids_to_ask_for_are_unknown_and_nothing_worse(database_url: str) -> None:
    with Store.open(database_url) as store:
        night(store, "a")
        for odd in ("'; DROP TABLE runs; --", "%", "", "\u202e", str(2**64), "u0000 ", "U0000"):
            found = store.recommendations([odd])
            assert found["user_id"].unique().to_list() == [odd]
            default = store.recommendations(["__default__"])["product_id"].to_list()
            assert found["product_id"].to_list() == default
        for broken in ("a\0b", "a\ud800"):
            with pytest.raises(UsageError, match="holds a NUL or half a character, which no id can"):
                store.recommendations(["u0001", broken])
    check(database_url)


def test_arguments_that_are_no_text_are_refused(project: Path) -> None:
    for command in (["recommend", "--user", "a\ud800"], ["similar", "--text", "\udcff"], ["forget\udcff"]):
        outcome = projects.run_recsys(*command, "-C", project, "--json")
        assert outcome.code == 2
        assert "is not UTF-8; pass it in UTF-8" in outcome.document["error"]


def test_numbers_that_no_column_holds_are_refused_in_one_line(project: Path) -> None:
    with program.open(project) as shop, pytest.raises(UsageError, match="cannot be read as a frame") as refused:
        shop.ingest(products={"product_id": [1, 2**64]})
    assert "\n" not in str(refused.value)
    assert _ids(project) == set()


# --- vectors and lists


def test_vectors_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    class Broken(StubModel):
        def encode(self, shop, rows):
            out = super().encode(shop, rows)
            out[1, 0] = np.nan
            return out

    shop, model = catalogue({"title": ["a", "b", "c"]}), Broken()
    with pytest.raises(DataContractError, match="gave product 'p1' a vector that is not a number"):
        EmbeddingTable.empty(8, "none").with_updates(
            shop, model, rows=np.arange(3), vectors=model.encode(shop, np.arange(3))
        )
    for value in (np.nan, np.inf):
        vectors = np.ones((4, 2), np.float32)
        vectors[2, 1] = value
        for kind in ("flat", "hnsw"):
            with pytest.raises(UsageError, match="vector of row 2 is not a number"):
                table = EmbeddingTable(IdMap("abcd"), vectors.copy(), np.zeros(4, np.uint64), "m")
                open_index(table, IndexSettings(kind=kind), folder=tmp_path / "index", force_rebuild=True)
    assert not list(tmp_path.iterdir())


def test_longer_lists_than_there_are_products_and_no_users() -> None:
    made = shops.recommender(n=9, known=shops.interactions(users=12, items=9))
    everybody = np.arange(12)
    frame = made.recommend_shard(everybody, 50, include_default=True)
    assert frame.group_by("user_id").len()["len"].max() <= 9
    assert frame.select("user_id", "product_id").is_duplicated().sum() == 0
    frame = made.recommend_shard(everybody[:0], 5, include_default=True)
    assert frame["user_id"].unique().to_list() == ["__default__"]


def test_a_run_for_no_users_is_published_with_its_default_list(database_url: str) -> None:
    default = pl.DataFrame(
        {"user_id": ["__default__"], "rank": [1], "product_id": ["p00"], "score": [1.0], "reason": ["popular"]}
    )
    with Store.open(database_url) as store:
        store.init()
        stock(store)
        with store.begin_run("recommend", RunManifest("m", "d", "c")) as run:
            run.write_shard(0, default, n_users=0)
            run.finish({"users": 0})
            store.publish(run.run_id, guards=PublishSettings(), expected_users=0)
        assert store.recommendations(["anybody"])["product_id"].to_list() == ["p00"]
    check(database_url, settled=True)


def test_ids_that_stand_twice_are_named() -> None:
    with pytest.raises(DataContractError, match="id 'a' stands twice"):
        IdMap(["a", "b", "a"])
