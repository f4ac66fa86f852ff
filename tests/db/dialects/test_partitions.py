"""A run's own partition on PostgreSQL: what readers see of it, what a killed writer leaves of it, and older schemas."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from recsys.db import migrate
from recsys.db.dialects import binary_copy, partitions
from recsys.db.engine import connect, fetch_rows
from recsys.errors import TemporaryError
from recsys.store import tables
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.store.samples import GOOD, MANIFEST, execute, finished, held, invariants, night, table

WHOLE = tables.recommendations_all


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    with Store.open(postgres_url) as opened:
        opened.init()
        yield opened


def _attached(store: Store) -> list[str]:
    query = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'r' ORDER BY 1"
    return [name.removeprefix("recommendations_all_") for (name,) in fetch_rows(store.engine, query, {})]


def test_a_run_is_seen_when_it_is_finished_and_then_has_its_key(store: Store) -> None:
    run = store.begin_run("recommend", MANIFEST)
    run.write_shard(0, GOOD, n_users=2)
    assert fetch_rows(store.engine, "SELECT COUNT(*) FROM recommendations_all", {}) == [(0,)]
    assert run.has_rows()
    assert held(store) == {run.run_id: GOOD.height}
    run.finish({"users": 2})
    assert fetch_rows(store.engine, "SELECT run_id, COUNT(*) FROM recommendations_all GROUP BY 1", {}) == [
        (run.run_id, GOOD.height)
    ]
    part = sa.inspect(store.engine).get_pk_constraint(partitions.partition_table(WHOLE, run.run_id).name)
    assert part["constrained_columns"] == [column.name for column in WHOLE.primary_key]
    assert _attached(store) == [run.run_id]


def test_attaching_reads_no_rows(store: Store) -> None:
    """The check on the partition says what attaching it would otherwise look at every row for."""
    run = store.begin_run("recommend", MANIFEST)
    run.write_shard(0, GOOD, n_users=2)
    heard: list[str] = []
    with store.engine.begin() as connection:
        connection.connection.driver_connection.add_notice_handler(lambda said: heard.append(said.message_primary))
        connection.exec_driver_sql("SET LOCAL client_min_messages = debug1")
        partitions.attach_partition(connection, WHOLE, run.run_id)
    assert any("is implied by existing constraints" in said for said in heard), heard


def test_readers_and_a_publication_do_not_wait_for_each_other(store: Store) -> None:
    """With an open transaction that has read the lists: begin, write, finish, publish and roll back all go through."""
    first = finished(store)
    store.publish(first.run_id)
    with store.dialect.snapshot(store.engine) as reader:
        seen = reader.execute(sa.text("SELECT * FROM recommendations ORDER BY user_id, rank")).all()
        with store.engine.begin() as waiting:
            waiting.exec_driver_sql("SELECT 1")
        second = finished(store, GOOD.head(2), users=1, manifest=RunManifest("other", "data", "config"))
        store.publish(second.run_id)
        assert store.rollback() == first.run_id
        assert reader.execute(sa.text("SELECT * FROM recommendations ORDER BY user_id, rank")).all() == seen


def test_pruning_waits_for_a_reader_and_makes_nobody_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [night(store, version) for version in ("1", "22")]
    newest = finished(store)
    store.publish(newest.run_id)
    with store.dialect.snapshot(store.engine) as reader:
        reader.execute(sa.text("SELECT COUNT(*) FROM recommendations")).all()
        pruning = threading.Thread(target=store.prune, args=(1,))
        pruning.start()
        waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DETACH%'"
        for _ in range(400):
            if fetch_rows(store.engine, waits, {}) == [(1,)]:
                break
            pruning.join(0.02)
        assert pruning.is_alive(), "it did not wait for the transaction that reads"
        found = fetch_rows(store.engine, "SELECT COUNT(*) FROM recommendations", {})  # a new reader goes on at once
        assert found == [(GOOD.height,)]
    pruning.join(20)
    assert not pruning.is_alive()
    assert held(store).keys() == {old[1], newest.run_id}
    invariants(store)


def test_a_prune_that_gave_up_waiting_is_finished_by_the_next(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [night(store, version) for version in ("1", "22")]
    third = finished(store)
    store.publish(third.run_id)
    with store.dialect.snapshot(store.engine) as reader:
        reader.execute(sa.text("SELECT COUNT(*) FROM recommendations")).all()
        hurried = connect(store.engine.url.render_as_string(hide_password=False))
        sa.event.listen(hurried, "checkout", lambda raw, *_: _hurry(raw))
        with pytest.raises(TemporaryError, match=f"run {ids[0]} cannot be deleted while a long transaction reads"):
            partitions.drop_partition(hurried, WHOLE, ids[0])
        monkeypatch.setattr(store, "engine", hurried)
        assert store.prune(1) == 1
        assert f"rows of run {ids[0]} in recommendations_all stay until the next prune" in caplog.text
        hurried.dispose()
    monkeypatch.undo()
    assert store.prune(1) == 0
    assert held(store).keys() == {ids[1], third.run_id}


def _hurry(raw: Any) -> None:
    raw.execute("SET lock_timeout = '100ms'")
    raw.commit()


def test_what_a_killed_process_left_goes_with_the_next_prune(store: Store) -> None:
    ids = [night(store, version) for version in ("1", "22")]
    given_up = store.begin_run("recommend", MANIFEST)
    given_up.write_shard(0, GOOD, n_users=2)
    execute(store, "UPDATE runs SET state = 'failed' WHERE run_id = :run", run=given_up.run_id)
    execute(store, "DELETE FROM run_shards WHERE run_id = :run", run=given_up.run_id)
    execute(store, "CREATE TABLE recommendations_all_of_ours (a INT)")  # not a run's: stays
    assert store.prune(2) == 1
    assert set(held(store)) == set(ids) == set(_attached(store))
    assert fetch_rows(store.engine, "SELECT COUNT(*) FROM recommendations_all_of_ours", {}) == [(0,)]


def test_an_older_schema_keeps_its_runs(postgres_url: str) -> None:
    """Runs of 0001: one published, one superseded, one that is being written and goes on afterwards."""
    engine = connect(postgres_url)
    _first_schema(engine)
    engine.dispose()
    with Store.open(postgres_url) as store:
        before = table(store, "recommendations_all")
        store.init()
        assert [row for row in before if "20260103T000000000" not in row] == table(store, "recommendations_all")
        assert _attached(store) == ["20260101T000000000", "20260102T000000000"]
        assert store.recommendations(["u1"])["product_id"].to_list() == ["b"]
        assert held(store)["20260103T000000000"] == 1
        run = store.begin_run("recommend", MANIFEST)
        assert (run.run_id, run.finished_shards) == ("20260103T000000000", {0})
        run.write_shard(1, GOOD.filter(pl.col("user_id") == "u2"), n_users=1)
        run.finish({"users": 2})
        store.publish(run.run_id)
        assert store.recommendations(["u1", "u2"])["product_id"].to_list() == ["c", "b"]
        assert store.rollback() == "20260102T000000000"
        assert store.prune(1) == 1
        assert _attached(store) == ["20260101T000000000", "20260102T000000000"]
        invariants(store)


def _first_schema(engine: sa.Engine) -> None:
    first = importlib.import_module("recsys.sql.migrations.versions.0001_first_schema")
    with engine.begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            first.upgrade()
        connection.exec_driver_sql(f"CREATE TABLE {migrate.VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO {migrate.VERSION_TABLE} VALUES ('0001')")
        migrate._create_views(connection, recreate=True)
        manifest = "'recommend', 'default', '{}', 'model', 'data', 'config', '{{\"k\": 2}}'".format
        columns = "run_id, kind, placement, state, model_version, data_fingerprint, config_hash, extra"
        for day, product, state in ((1, "a", "superseded"), (2, "b", "published"), (3, "c", "building")):
            run_id = f"2026010{day}T000000000"
            connection.exec_driver_sql(f"INSERT INTO runs ({columns}) VALUES ('{run_id}', {manifest(state)})")
            connection.exec_driver_sql(
                f"INSERT INTO recommendations_all VALUES ('{run_id}', 'default', 'u1', 1, '{product}', 1, 'popular')"
            )
            connection.exec_driver_sql(f"INSERT INTO run_shards VALUES ('{run_id}', 0, 1, 1, '')")
        connection.exec_driver_sql(
            "INSERT INTO publications VALUES ('default', '20260102T000000000', '20260101T000000000', 2, now())"
        )


def test_every_value_comes_back_through_the_binary_form(postgres_url: str) -> None:
    kinds = sa.Table(
        "kinds",
        sa.MetaData(),
        sa.Column("run_id", tables.Id),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", tables.Id),
        sa.Column("big", sa.BigInteger),
        sa.Column("small", sa.Integer),
        sa.Column("part", sa.Float),
        sa.Column("yes", sa.Boolean),
        sa.Column("raw", sa.LargeBinary),
        sa.Column("json", sa.JSON),
    )
    n = 40_000  # more than two blocks
    frame = pl.DataFrame(
        {
            "id": range(n),
            "text": [None if i % 7 == 0 else "ä" * (i % 300) + str(i) for i in range(n)],
            "big": [None if i % 5 == 0 else (-1) ** i * (2**62 + i) for i in range(n)],
            "small": [(-1) ** i * i for i in range(n)],
            "part": [None if i % 11 == 0 else i / 7 for i in range(n)],
            "yes": [None if i % 3 == 0 else i % 2 == 0 for i in range(n)],
            "raw": [None if i % 13 == 0 else bytes(range(i % 256)) for i in range(n)],
            "json": [None if i % 17 == 0 else f'{{"a": {i}}}' for i in range(n)],
        }
    )
    assert binary_copy.encode_blocks(kinds, frame) is not None
    engine = connect(postgres_url)
    with Store.open(postgres_url) as store, store.engine.begin() as connection:
        kinds.create(connection)
        store.dialect.bulk_load(connection, kinds, frame.reverse(), constants={"run_id": "é1"})
        found = connection.execute(sa.text("SELECT *, json::text AS j FROM kinds ORDER BY id")).all()
    wanted = frame.with_columns(pl.lit("é1").alias("run_id")).select("run_id", *frame.columns[:-1], "json").rows()
    assert [(*row[:-2], row[-1]) for row in found] == wanted
    engine.dispose()


def test_numbers_that_do_not_fit_are_refused(postgres_url: str) -> None:
    numbers = sa.Table("numbers", sa.MetaData(), sa.Column("id", sa.BigInteger), sa.Column("part", sa.Float))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        binary_copy.encode_blocks(
            numbers, pl.DataFrame({"id": [2**63], "part": [0.5]}, schema={"id": pl.UInt64, "part": pl.Float64})
        )
    times = sa.Table("times", sa.MetaData(), sa.Column("at", sa.DateTime))
    assert binary_copy.encode_blocks(times, pl.DataFrame({"at": ["2026-01-01 00:00:00"]})) is None
