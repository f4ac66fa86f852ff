"""The promises I1 to I9 of a store, asked in plain SQL, whatever was done to it before.

In: the URL of a store; what consumers may be reading now. Out: nothing, or an error that names the broken promise and
shows the rows that break it.

I1 the pointer names a published run; I2 the view shows as many rows as the ledger says; I3 each place of a list once,
ranks 1..n; I4 one run a result; I5 at most one run at work a placement; I6 a re-run after a crash equals an uncrashed
one; I7 rows in = used + rejected + filtered; I8 nothing temporary is left after the next run; I9 consumers read a whole
run, the one before until the flip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recsys.db import dialects
from recsys.db.engine import connect, fetch_rows
from recsys.store.store import Store
from recsys.store.tables import metadata

Row = tuple[Any, ...]
LISTS = """SELECT placement, user_id, rank, product_id, score, reason, reason_product_id FROM recommendations
  ORDER BY placement, user_id, rank"""
_WRITTEN = ("recommendations_all", "similar_products_all", "clusters_all", "cluster_members_all", "run_shards")
_VIEWS = ("similar_products", "product_clusters", "cluster_labels")
_DRAFTS = (".part-*", ".CURRENT-*", "*.tmp", "*.part", "*.new")


def read(url: str) -> list[Row]:
    """The lists that consumers read, in one statement."""
    engine = connect(url)
    try:
        return [tuple(row) for row in fetch_rows(engine, LISTS, {})]
    finally:
        engine.dispose()


def check(url: str, *, shown: Collection[list[Row]] | None = None, settled: bool = False) -> list[Row]:
    """Assert I1 to I5, with `shown` I9, with `settled` I8; return the lists that consumers read.

    Args:
        url: of the store.
        shown: what consumers may be reading; None = anything whole.
        settled: a run has been finished since the fault, so nothing of the fault may be left.
    """
    engine = connect(url)
    try:
        _pointers(engine)
        _lists(engine)
        _building(engine)
        if settled:
            _nothing_left(engine)
        found = [tuple(row) for row in fetch_rows(engine, LISTS, {})]
    finally:
        engine.dispose()
    if settled:
        Store.open(url).close()  # I8: the lease is free
    assert shown is None or found in list(shown), f"I9: consumers read {len(found)} rows of none of {len(shown)} runs"
    return found


def adds_up(counts: Mapping[str, Mapping[str, Any]]) -> None:
    """Assert I7 of what an ingest reported, by table."""
    for table, held in counts.items():
        if "rows_in" in held:
            parts = held["used"] + held["rejected"] + held.get("filtered", 0)
            assert held["rows_in"] == parts, f"I7: {table}: {dict(held)}"


def no_drafts(folders: Iterable[Path]) -> None:
    """Assert I8 of model and vector folders: no file of a writer that died."""
    for folder in folders:
        left = [path for pattern in _DRAFTS for path in folder.rglob(pattern)]
        assert not left, f"I8: {left}"


def _none(engine: sa.Engine, promise: str, query: str) -> None:
    """Assert that a query for what must not be finds nothing."""
    found = fetch_rows(engine, query, {})
    assert not found, f"{promise}: {found[:5]}"


def _pointers(engine: sa.Engine) -> None:
    _none(
        engine,
        "I1: the pointer names no published run",
        "SELECT p.placement, p.run_id, r.state FROM publications p LEFT JOIN runs r ON r.run_id = p.run_id "
        "WHERE r.state IS NULL OR r.state <> 'published' OR r.pruned_at IS NOT NULL OR r.placement <> p.placement",
    )
    _none(
        engine,
        "I1: a run is called published, but no pointer names it",
        "SELECT r.run_id FROM runs r LEFT JOIN publications p ON p.run_id = r.run_id "
        "WHERE r.state = 'published' AND p.run_id IS NULL",
    )
    _none(
        engine,
        "I1: the way back leads nowhere",
        "SELECT p.placement, p.previous_run_id FROM publications p LEFT JOIN runs r ON r.run_id = p.previous_run_id "
        "WHERE p.previous_run_id IS NOT NULL AND (r.run_id IS NULL OR r.pruned_at IS NOT NULL)",
    )


def _lists(engine: sa.Engine) -> None:
    _none(
        engine,
        "I2: the view shows other numbers of rows than the ledger",
        "SELECT p.run_id, v.n, l.n FROM publications p JOIN runs r ON r.run_id = p.run_id AND r.kind = 'recommend' "
        "LEFT JOIN (SELECT run_id, COUNT(*) AS n FROM recommendations GROUP BY run_id) v ON v.run_id = p.run_id "
        "LEFT JOIN (SELECT run_id, SUM(n_rows) AS n FROM run_shards GROUP BY run_id) l ON l.run_id = p.run_id "
        "WHERE COALESCE(v.n, 0) <> COALESCE(l.n, 0)",
    )
    ledger = fetch_rows(engine, "SELECT run_id, SUM(n_rows) FROM run_shards GROUP BY run_id HAVING SUM(n_rows) > 0", {})
    over = fetch_rows(engine, "SELECT run_id FROM runs WHERE state = 'failed' OR pruned_at IS NOT NULL", {})
    written = {run: count for run, count in held(engine).items() if count and (run,) not in over}
    expected = {run: int(count) for run, count in ledger}
    assert written == expected, f"I2: rows and ledger of all runs, also of those at work: {written} {expected}"
    _none(
        engine,
        "I3: a list has gaps or repeats",
        "SELECT run_id, placement, user_id, COUNT(*) FROM recommendations_all GROUP BY run_id, placement, user_id "
        "HAVING MIN(rank) <> 1 OR MAX(rank) <> COUNT(*) OR COUNT(DISTINCT rank) <> COUNT(*) "
        "OR COUNT(DISTINCT product_id) <> COUNT(*)",
    )
    _none(
        engine,
        "I3: a place is shown twice",
        "SELECT placement, user_id, rank, COUNT(*) FROM recommendations GROUP BY placement, user_id, rank "
        "HAVING COUNT(*) > 1",
    )
    _none(
        engine,
        "I4: one placement shows two runs",
        "SELECT placement, COUNT(DISTINCT run_id) FROM recommendations GROUP BY placement "
        "HAVING COUNT(DISTINCT run_id) > 1",
    )
    for view in _VIEWS:
        shown = fetch_rows(engine, f"SELECT COUNT(DISTINCT run_id) FROM {view}", {})
        assert shown[0][0] <= 1, f"I4: {view} shows {shown[0][0]} runs"


def _building(engine: sa.Engine) -> None:
    _none(
        engine,
        "I5: two runs at work",
        "SELECT placement, COUNT(*) FROM runs WHERE state = 'building' GROUP BY placement HAVING COUNT(*) > 1",
    )


def _nothing_left(engine: sa.Engine) -> None:
    _none(engine, "I8: a run is still at work", "SELECT run_id FROM runs WHERE state = 'building'")
    alive = fetch_rows(engine, "SELECT run_id FROM runs WHERE state <> 'failed' AND pruned_at IS NULL", {})
    kept = {run for (run,) in alive}
    for table in _WRITTEN:
        left = held(engine, table).keys() - kept
        assert not left, f"I8: rows in {table} of runs that are given up, pruned or unknown: {left}"
    ours = {*metadata.tables, "recsys_schema"}
    parts = {f"{table}_{run}" for table in _WRITTEN for run in kept}
    names = set(sa.inspect(engine).get_table_names()) - ours - parts
    assert not names, f"I8: tables {names} are left"


def held(engine: sa.Engine, name: str = "recommendations_all") -> dict[str, int]:
    """Rows of each run that has any, or a place for them, wherever the database keeps them."""
    dialect, whole = dialects.dialect_for(engine), metadata.tables[name]
    if name == "run_shards":
        return dict(fetch_rows(engine, "SELECT run_id, COUNT(*) FROM run_shards GROUP BY run_id", {}))
    with dialect.snapshot(engine) as connection:
        counts = {}
        for run_id in dialect.stored_run_ids(connection, whole):
            place = dialect.run_storage(whole, run_id)
            query = sa.select(sa.func.count()).select_from(place).where(place.c.run_id == run_id)
            counts[run_id] = int(connection.execute(query).scalar_one())
    return counts
