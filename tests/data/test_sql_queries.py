"""SELECTs of a shop: what they mention, how :since is put in, what they must give."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from recsys.data import file_readers as files
from recsys.data.sql_queries import SourceQuery, read_all, source_queries
from recsys.db.source_reader import SourceReader
from recsys.errors import UsageError


@pytest.fixture
def shop(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE artikel (nr INTEGER, name TEXT, farbe TEXT, am TEXT)")
        rows = [(7, "One", "red", "2024-05-01 00:00:00"), (8, "Two", None, "2024-05-02 00:00:00")]
        connection.executemany("INSERT INTO artikel VALUES (?, ?, ?, ?)", rows)
    return f"sqlite:///{tmp_path}/shop.db"


def test_somebody_elses_database(shop: str, tmp_path: Path) -> None:
    (tmp_path / "products.sql").write_text(
        "SELECT nr AS product_id, name AS title, farbe AS colour FROM artikel ORDER BY nr"
    )
    with SourceReader(shop) as reader:
        (select,) = source_queries({"products": "@products.sql"}, folder=tmp_path)
        part = read_all(select, reader)
        frame = part.frame()
        assert frame["product_id"].to_list() == ["7", "8"]
        assert frame["title"].to_list() == ["One", "Two"]
        assert frame["attributes"].to_list() == ['{"colour":"red"}', None]
        assert (part.source, select.incremental, select.ordered) == ("sql/products", False, False)
        (select,) = source_queries({"products": "SELECT nr FROM artikel"})
        with pytest.raises(UsageError, match="the query has no column product_id"):
            list(select.frames(reader))
    with pytest.raises(UsageError, match="no such file"):
        source_queries({"products": "@none.sql"}, folder=tmp_path)
    with pytest.raises(UsageError, match="no query to read with"):
        source_queries({})
    order = source_queries({"events": "SELECT 1", "users": "SELECT 1", "products": "SELECT 1"})
    assert [each.table for each in order] == ["products", "users", "events"]


QUERY = "SELECT nr AS product_id, name AS title, am AS updated_at FROM artikel WHERE am >= {}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (QUERY.format(":since"), True),
        (QUERY.format(":SINCE") + " -- the end ;", True),
        (QUERY.format("'2024' /* not :since\n */"), False),
        (QUERY.format("'2024' -- since :since"), False),
        (QUERY.format("':since'"), False),
        (QUERY.format("'it''s :since'"), False),
        (QUERY.format("'2024' AND name <> '--' AND am > :since") + ";\n", True),
        (QUERY.format(":since AND '12:30 a::b' <> 'x:y'"), True),
    ],
)
def test_whether_a_query_mentions_since(shop: str, query: str, found: bool) -> None:
    select = SourceQuery.parse("products", query)
    assert select.incremental is found
    with SourceReader(shop) as reader:
        (frame,) = select.frames(reader, since=1_714_600_000)  # 2024-05-01 21:46:40
        everything = 0 if "since'" in query else 2
        assert frame["product_id"].to_list() == (["8"] if found else ["7", "8"][:everything])
        assert frame[files.ROW].to_list() == list(range(1, frame.height + 1))


def test_a_fingerprint_is_of_the_query_and_the_database(shop: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE artikel (nr INTEGER)")
    with SourceReader(shop) as one, SourceReader(f"sqlite:///{tmp_path}/other.db") as other:
        query = "SELECT  nr AS product_id, am AS updated_at\nFROM artikel WHERE am > :since"
        same = "SELECT nr AS product_id, am AS updated_at /* why */ FROM artikel WHERE am > :since;"
        first = SourceQuery.parse("products", query).fingerprint(one)
        assert first == SourceQuery.parse("products", same).fingerprint(one)
        assert first != SourceQuery.parse("products", query).fingerprint(other)
        assert first != SourceQuery.parse("products", query.replace(">", ">=")).fingerprint(one)
