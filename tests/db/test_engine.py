"""Connections, streams, and what a database's complaint turns into."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recsys.db.engine import connect, fetch_rows, parse_url, read_frame, stream
from recsys.errors import (
    ConfigError,
    DatabaseUnavailableError,
    NotFoundError,
    RecsysError,
    TemporaryError,
    UsageError,
)


def _filled(url: str, count: int = 7) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id TEXT, place INTEGER)")
        for place in range(count):
            connection.exec_driver_sql(f"INSERT INTO item VALUES ('{place:03d}', {place})")
    engine.dispose()


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_a_stream_gives_every_row_in_order(database_url: str, batch: int) -> None:
    _filled(database_url)
    engine = connect(database_url, read_only=True)
    frames = list(stream(engine, "SELECT id, place FROM item ORDER BY place", batch=batch))
    assert max(frame.height for frame in frames) <= batch
    assert pl.concat([frame for frame in frames if frame.height]).rows() == [(f"{n:03d}", n) for n in range(7)]
    engine.dispose()


def test_a_stream_without_rows_has_its_columns(database_url: str) -> None:
    _filled(database_url, 0)
    engine = connect(database_url)
    (frame,) = stream(engine, "SELECT id, place FROM item")
    assert (frame.columns, frame.height) == (["id", "place"], 0)
    engine.dispose()


def test_types_of_a_query(database_url: str) -> None:
    engine = connect(database_url)
    query = "SELECT 1 AS whole, 1.5 AS part, 'x' AS text, NULL AS missing, 9223372036854775807 AS big"
    assert read_frame(engine, query).row(0) == (1, 1.5, "x", None, 2**63 - 1)
    assert read_frame(engine, query).dtypes == [pl.Int64, pl.Float64, pl.String, pl.Null, pl.Int64]
    engine.dispose()


def test_percent_and_colon_in_a_query_mean_themselves(database_url: str) -> None:
    engine = connect(database_url)
    assert read_frame(engine, "SELECT '100%s :x' AS said WHERE 'abc' LIKE '%b%'").rows() == [("100%s :x",)]
    assert fetch_rows(engine, "SELECT :x || '%'", {"x": "it's"}) == [("it's%",)]
    engine.dispose()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT place, id AS place FROM item", "names the column 'place' twice"),
        ("SELEC id FROM item", "the database refuses the query"),
        ("SELECT missing FROM item", "the database refuses the query.*missing"),
    ],
)
def test_a_query_that_cannot_be_read(database_url: str, query: str, message: str) -> None:
    _filled(database_url)
    engine = connect(database_url)
    with pytest.raises(UsageError, match=message):
        list(stream(engine, query))
    engine.dispose()


def test_a_read_only_connection_cannot_write(database_url: str) -> None:
    _filled(database_url)
    engine = connect(database_url, read_only=True)
    with pytest.raises(RecsysError), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM item")
    assert fetch_rows(engine, "SELECT COUNT(*) FROM item", {}) == [(7,)]
    engine.dispose()


def test_a_missing_table_says_what_to_do(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(NotFoundError, match="run `recsys init` first"):
        fetch_rows(engine, "SELECT * FROM recommendations", {})
    engine.dispose()


def test_a_server_that_is_away_is_temporary_and_keeps_the_secret() -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"does not answer .*try again") as away:
        connect("postgresql://me:hunter2@127.0.0.1:1/shop")
    assert away.value.exit_code == 75
    assert "hunter2" not in str(away.value)
    assert "me:***@127.0.0.1:1/shop" in str(away.value)


def test_a_database_that_does_not_exist_is_a_setting(postgres_server: str) -> None:
    with pytest.raises(ConfigError, match="nowhere.*does not exist"):
        connect(postgres_server.format(name="nowhere"))


def test_a_server_that_ends_the_session_is_temporary(postgres_url: str) -> None:
    engine, other = connect(postgres_url), connect(postgres_url)
    with pytest.raises(DatabaseUnavailableError) as ended, engine.begin() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        fetch_rows(other, "SELECT pg_terminate_backend(:pid)", {"pid": pid})
        connection.exec_driver_sql("SELECT 1")
    assert ended.value.exit_code == 75
    assert fetch_rows(engine, "SELECT 1", {}) == [(1,)]  # the next connection is a new one
    engine.dispose()
    other.dispose()


def test_a_locked_sqlite_file_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.db.engine.SQLITE_BUSY_TIMEOUT_MS", 50)
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    _filled(url)
    first, second = connect(url), connect(url)
    with first.begin() as holding:
        holding.exec_driver_sql("DELETE FROM item")
        with pytest.raises(TemporaryError, match="another program writes to it; try again") as locked:
            with second.begin() as connection:
                connection.exec_driver_sql("DELETE FROM item")
        assert locked.value.exit_code == 75
        assert fetch_rows(second, "SELECT COUNT(*) FROM item", {}) == [(7,)]  # readers wait for nobody
    first.dispose()
    second.dispose()


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("shop.db", ConfigError, "cannot be read; write sqlite:///shop.db, postgresql://"),
        ("oracle://u:hunter2@h/d", ConfigError, "database 'oracle' is not supported"),
        ("postgressql://u:hunter2@h/d", ConfigError, "did you mean 'postgresql'"),
    ],
)
def test_an_address_of_no_database(url: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as wrong:
        parse_url(url)
    assert "hunter2" not in str(wrong.value)


def test_files_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("dear diary, " * 100)
    with pytest.raises(UsageError, match="the file is not a database; set another one"):
        connect(f"sqlite:///{tmp_path / 'notes.db'}")
    with pytest.raises(UsageError, match="check that the folder exists"):
        connect(f"sqlite:///{tmp_path / 'nowhere' / 'shop.db'}")
    with pytest.raises(NotFoundError, match="does not exist"):
        connect(f"sqlite:///{tmp_path / 'missing.db'}", read_only=True)
    assert not (tmp_path / "missing.db").exists()
