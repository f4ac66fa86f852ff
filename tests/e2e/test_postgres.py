"""PostgreSQL: the same files, models and settings give the same rows as on SQLite, row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recsys.db.engine import connect
from recsys.db.engine import fetch_rows as read_rows
from tests.e2e.projects import SMALL, Run, rows

pytestmark = pytest.mark.e2e

SAME = (
    "SELECT placement, user_id, rank, product_id, score, reason, reason_product_id"
    " FROM recommendations ORDER BY 1, 2, 3",
    "SELECT product_id, rank, neighbour_id, score FROM similar_products ORDER BY 1, 2",
    "SELECT product_id, cluster_id, distance FROM product_clusters ORDER BY 1",
    "SELECT cluster_id, label, size FROM cluster_labels ORDER BY 1",
    "SELECT product_id, model_version, content_hash, dim, vector FROM product_embeddings ORDER BY 1",
    "SELECT product_id, title, price, image, content_hash FROM products ORDER BY 1",
    "SELECT user_id, product_id, event_type, occurred_at, order_id, line_no, quantity"
    " FROM events ORDER BY 1, 4, 2, 3, 5, 6",
)


def alike(cell: Any) -> Any:
    """Times and bytes in one form."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return bytes(cell) if isinstance(cell, memoryview) else cell


def test_the_same_rows_as_on_sqlite(copied: Path, trained: Path, drawn: Path, postgres_url: str, recsys: Run) -> None:
    (copied / "recsys.db").unlink()
    (copied / "recsys.toml").write_text(f'{SMALL}\n[database]\nurl = "{postgres_url}"\n')
    for command in (["init", copied], ["ingest", drawn, "-C", copied], ["run", "-C", copied]):
        outcome = recsys(*command, "--json", "-q")
        assert outcome.code == 0, outcome.err
    assert outcome.document["counts"]["trained"] == "nothing"  # the data has the same fingerprint
    assert not (copied / "recsys.db").exists()
    engine = connect(postgres_url, read_only=True)
    try:
        for query in SAME:
            held = [tuple(alike(cell) for cell in row) for row in read_rows(engine, query)]
            assert held
            assert held == [tuple(alike(cell) for cell in row) for row in rows(trained, query)], query
    finally:
        engine.dispose()


def test_every_command_works_there_too(copied: Path, drawn: Path, postgres_url: str, recsys: Run) -> None:
    where = ("-C", copied, "--database", postgres_url, "--json")
    assert recsys("init", *where).code == 0
    assert recsys("ingest", drawn, *where).code == 0
    for command in (
        ["check"],
        ["embed"],
        ["cluster"],
        ["index"],
        ["recommend"],
        ["recommend", "-k", "3"],
        ["rollback"],
        ["runs", "list"],
        ["runs", "show"],
        ["runs", "prune"],
        ["recommend", "--user", "u0001"],
        ["similar", "--product", "p0001"],
        ["doctor"],
        ["run", "--dry-run"],
    ):
        outcome = recsys(*command, *where)
        assert outcome.code == 0, (command, outcome.err)
        assert outcome.document["status"] in {"done", "planned", "nothing_new", "problems"}
