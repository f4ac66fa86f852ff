"""Runs: begun, resumed, given up, published, taken back, pruned."""

from __future__ import annotations

import threading

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from recsys.config import PublishSettings
from recsys.db.dialects import rows as row_orders
from recsys.db.engine import fetch_rows
from recsys.errors import NotFoundError, PublishGuardError, RecsysError, TemporaryError
from recsys.store import tables
from recsys.store.run_ledger import RunManifest, frame_checksum, new_run_id
from recsys.store.store import Store
from tests.store.samples import GOOD, MANIFEST, SHARDS, execute, finished, held, invariants, lists, night, shard, stock

OTHER = RunManifest("model", "other data", "config", {"k": 2})


def _count(store: Store, table: str, run_id: str) -> int:
    if table.endswith("_all"):
        return held(store, table).get(run_id, 0)
    return int(fetch_rows(store.engine, f"SELECT COUNT(*) FROM {table} WHERE run_id = :run", {"run": run_id})[0][0])


def test_a_shard_is_written_once(store: Store) -> None:
    with store.begin_run("recommend", MANIFEST) as run:
        assert run.write_shard(0, GOOD, n_users=2) is True
        assert run.write_shard(0, GOOD, n_users=2) is False
        run.finished_shards.clear()  # as another process would see it: the database has the last word
        assert run.write_shard(0, GOOD, n_users=2) is False
        assert run.finished_shards == {0}
    assert _count(store, "recommendations_all", run.run_id) == GOOD.height
    facts = store.run(run.run_id)
    assert (facts["shards"], facts["users_written"], facts["rows_written"]) == (1, 2, GOOD.height)


def test_a_shard_that_fails_leaves_neither_rows_nor_a_line(store: Store) -> None:
    without = GOOD.with_columns(
        product_id=pl.when(pl.col("user_id") != "u2").then("product_id")
    )  # after some good rows
    with store.begin_run("recommend", MANIFEST) as run:
        with pytest.raises(Exception, match="(?i)not.null|cannot be null"):
            run.write_shard(0, without, n_users=2)
        assert run.finished_shards == set()
        assert _count(store, "recommendations_all", run.run_id) == _count(store, "run_shards", run.run_id) == 0
        assert run.write_shard(0, GOOD, n_users=2) is True


def test_one_key_twice_is_never_ready(store: Store) -> None:
    """The shard fails; but a partition on PostgreSQL has no key before it is finished, so there finishing fails."""
    with pytest.raises(
        Exception, match="(?i)unique constraint|duplicate entry|two rows with the same key .*--no-resume"
    ):
        with store.begin_run("recommend", MANIFEST) as run:
            run.write_shard(0, GOOD, n_users=2)
            run.write_shard(1, GOOD.head(1), n_users=1)
            run.finish({"users": 2})
    assert store.runs()["state"].to_list() == ["building"]
    assert fetch_rows(store.engine, "SELECT COUNT(*) FROM recommendations", {}) == [(0,)]
    invariants(store)


def test_an_unfinished_run_goes_on_with_the_same_manifest_only(store: Store) -> None:
    with pytest.raises(KeyError), store.begin_run("recommend", MANIFEST) as first:
        first.write_shard(3, GOOD, n_users=2)
        raise KeyError("the power\nwent")
    assert store.run(first.run_id)["state"] == "building"
    assert store.run(first.run_id)["reason"] == "'the power\\nwent'"
    with store.begin_run("recommend", MANIFEST) as again:
        assert (again.run_id, again.finished_shards) == (first.run_id, {3})
    with store.begin_run("recommend", OTHER) as other:
        assert other.run_id > first.run_id
        assert other.finished_shards == set()
    given_up = store.run(first.run_id)
    assert given_up["state"] == "failed"
    assert "given up" in given_up["reason"]
    assert _count(store, "recommendations_all", first.run_id) == _count(store, "run_shards", first.run_id) == 0
    with store.begin_run("recommend", OTHER, resume=False) as fresh:
        assert fresh.run_id > other.run_id
    assert store.runs()["state"].to_list() == ["building", "failed", "failed"]


def test_a_shard_that_the_database_lost_is_missed_when_finishing(store: Store) -> None:
    """A server that crashes may lose its last commits; the writer goes on with a new connection and knows nothing."""
    with store.begin_run("recommend", MANIFEST) as run:
        run.write_shard(0, GOOD, n_users=2)
        execute(store, "DELETE FROM run_shards")
        with pytest.raises(TemporaryError, match="lost 1 shards of run"):
            run.finish({"users": 2})
    assert store.run(run.run_id)["state"] == "building"


def test_a_checksum_tells_rows_apart_and_not_how_they_lie() -> None:
    halves = pl.concat([GOOD.head(2), GOOD.tail(2)], rechunk=False)
    assert frame_checksum(halves) == frame_checksum(GOOD) == frame_checksum(pl.concat([GOOD, GOOD]).slice(GOOD.height))
    others = (
        GOOD.reverse(),
        GOOD.head(3),
        GOOD.head(0),
        GOOD.with_columns(rank=pl.col("rank") + 1),
        GOOD.with_columns(reason=None),
        GOOD.with_columns(reason=pl.lit("")),
        GOOD.with_columns(user_id=pl.col("user_id") + "x", product_id=pl.col("product_id").str.tail(0)),
        GOOD.rename({"score": "points"}),
    )
    assert len({frame_checksum(frame) for frame in (GOOD, *others)}) == 1 + len(others)


def test_placements_do_not_touch_each_other(store: Store) -> None:
    here = store.begin_run("recommend", MANIFEST)
    there = store.begin_run("recommend", OTHER, placement="mail")
    here.write_shard(0, GOOD, n_users=2)
    there.write_shard(0, GOOD.head(2), n_users=1)
    for run in (here, there):
        run.finish({"users": 1})
        store.publish(run.run_id)
    assert store.recommendations()["user_id"].to_list() == ["__default__", "u1", "u1", "u2"]
    assert store.recommendations(placement="mail")["user_id"].to_list() == ["u1", "u1"]
    invariants(store)


def test_a_writer_whose_run_was_taken_over_can_write_no_more(store: Store) -> None:
    old = store.begin_run("recommend", MANIFEST)
    old.write_shard(0, GOOD, n_users=2)
    execute(store, "UPDATE runs SET host = 'elsewhere:1' WHERE run_id = :run", run=old.run_id)
    for late in (lambda: old.write_shard(1, GOOD, n_users=2), lambda: old.finish({"users": 2})):
        with pytest.raises(RecsysError, match=r"takes no rows from this process: .*elsewhere:1"):
            late()
    store.begin_run("recommend", OTHER)
    with pytest.raises(RecsysError, match="it is failed"):
        old.write_shard(1, GOOD, n_users=2)
    assert _count(store, "recommendations_all", old.run_id) == 0


def test_a_takeover_waits_for_the_last_commit_of_a_killed_writer(postgres_url: str) -> None:
    """On PostgreSQL the server may still be at the commit of a process that is gone, with its lease given back."""
    with Store.open(postgres_url) as store:
        store.init()
        old = store.begin_run("recommend", MANIFEST)
        begun: list[str] = []
        taker = threading.Thread(target=lambda: begun.append(store.begin_run("recommend", OTHER).run_id))
        with store.engine.begin() as connection:
            old._lock_run_row(connection)
            line = {"run_id": old.run_id, "shard_id": 0, "n_users": 2, "n_rows": GOOD.height, "checksum": ""}
            assert store.dialect.insert_new(connection, tables.run_shards, line)
            old._bulk_load(connection, tables.recommendations_all, GOOD)
            taker.start()
            waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            for _ in range(200):
                if fetch_rows(store.engine, waiting, {}) == [(1,)]:
                    break
                taker.join(0.02)
            assert begun == []
        taker.join(10)
        assert len(begun) == 1
        assert _count(store, "recommendations_all", old.run_id) == _count(store, "run_shards", old.run_id) == 0


def test_run_ids_rise_when_the_clock_falls_back(store: Store) -> None:
    with store.engine.connect() as connection:
        now = store.dialect.now(connection)
    first = new_run_id(now, None)
    assert len(first) == 18
    assert new_run_id(now, first) > first
    assert new_run_id(now, "29991231T235959999") > "29991231T235959999"


def test_publish_moves_the_pointer_and_rollback_moves_it_back(store: Store) -> None:
    stock(store)
    runs = [finished(store, lists(u1=[(product, 1.0)], default=[("a", 0.0)]), users=1) for product in "abc"]
    for run in runs:
        assert store.recommendations(["u1"])["product_id"].to_list() != [run.run_id]
        store.publish(run.run_id, guards=PublishSettings())
    ids = [run.run_id for run in runs]
    assert store.recommendations(["u1"])["product_id"].to_list() == ["c"]
    assert store.rollback() == ids[1]
    assert store.recommendations(["u1"])["product_id"].to_list() == ["b"]
    assert store.rollback() == ids[0]
    assert [store.run(run_id)["state"] for run_id in ids] == ["published", "rolled_back", "rolled_back"]
    with pytest.raises(NotFoundError, match="no earlier run"):
        store.rollback()
    assert store.publish(ids[2]) == ids[2]  # forward again, by name
    assert store.rollback() == ids[0]
    generation = fetch_rows(store.engine, "SELECT generation, previous_run_id FROM publications", {})
    assert generation == [(7, None)]
    invariants(store)


def test_publishing_the_published_run_changes_nothing(store: Store) -> None:
    run = finished(store)
    store.publish(run.run_id)
    before = fetch_rows(store.engine, "SELECT * FROM publications", {})
    assert store.publish(run.run_id) == run.run_id
    assert fetch_rows(store.engine, "SELECT * FROM publications", {}) == before


def test_what_cannot_be_published_says_why(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no finished run waits"):
        store.publish()
    with pytest.raises(NotFoundError, match="nothing is published at 'default'"):
        store.rollback()
    building = store.begin_run("recommend", MANIFEST)
    with pytest.raises(NotFoundError, match="it is building"):
        store.publish(building.run_id)
    with pytest.raises(NotFoundError, match=rf"no run '{building.run_id[:-1]}x'.*{building.run_id}"):
        store.publish(building.run_id[:-1] + "x")


GUARDS = {
    "users": (GOOD, PublishSettings(), 4, r"only 2 of 4 users have a list \(publish.min_user_coverage = 0.98\)"),
    "default": (lists(u1=[("a", 1)], u2=[("a", 1)]), PublishSettings(), 2, "no list for users without history"),
    "gap": (GOOD.filter(~((GOOD["user_id"] == "u1") & (GOOD["rank"] == 1))), PublishSettings(), 2, "1 users have gaps"),
    "repeat": (
        lists(u1=[("a", 1), ("a", 0.5)], default=[("a", 0)]),
        PublishSettings(),
        1,
        "1 users have gaps or repeats",
    ),
    "unknown": (lists(u1=[("?", 1)], default=[("a", 0)]), PublishSettings(), 1, "1 rows name a product that is not in"),
    "gone": (lists(u1=[("gone", 1)], default=[("a", 0)]), PublishSettings(), 1, "1 rows name a product that is not av"),
    "nan": (lists(u1=[("a", np.nan)], default=[("a", 0)]), PublishSettings(), 1, "1 rows have a score that is not a n"),
    "catalogue": (GOOD, PublishSettings(min_catalogue_coverage=0.9), 2, r"only 66.7% of the sellable products appear"),
    "overlap": (
        lists(u1=[("a", 1), ("c", 1)], u2=[("c", 1)], default=[("a", 0)]),
        PublishSettings(min_overlap=0.3),
        2,
        r"lists keep only 25.0% of the last run's products \(publish.min_overlap = 0.3\)",
    ),
}


@pytest.mark.parametrize("case", GUARDS)
def test_every_guard_refuses_with_its_figure(store: Store, case: str, caplog: pytest.LogCaptureFixture) -> None:
    frame, settings, expected, message = GUARDS[case]
    stock(store)
    before = finished(store)
    store.publish(before.run_id, guards=PublishSettings(), expected_users=2)
    run = finished(store, frame, users=expected)
    with pytest.raises(PublishGuardError, match=message) as refused:
        store.publish(run.run_id, guards=settings)
    assert refused.value.exit_code == 4
    assert str(refused.value).count(";") == 1, "another guard refused as well"
    assert store.run(run.run_id)["state"] == "ready"
    assert store.run(before.run_id)["state"] == "published"
    assert store.recommendations(["u1"])["product_id"].to_list() == ["a", "b"]
    store.publish(run.run_id, guards=settings, force=True)
    assert store.run(run.run_id)["state"] == "published"
    assert any("is published although" in record.message for record in caplog.records)


def test_products_that_are_not_available_pass_where_the_rules_allow_them(store: Store) -> None:
    frame, settings, expected, message = GUARDS["gone"]
    stock(store)
    run = finished(store, frame, users=expected)
    with pytest.raises(PublishGuardError, match=message):
        store.publish(run.run_id, guards=settings)
    store.publish(run.run_id, guards=PublishSettings(min_catalogue_coverage=0.1), available_only=False)
    assert store.run(run.run_id)["state"] == "published"


def test_rows_that_the_ledger_does_not_know_are_refused(store: Store) -> None:
    stock(store)
    run = finished(store)
    execute(store, "DELETE FROM recommendations_all WHERE user_id = 'u2'")
    with pytest.raises(PublishGuardError, match="1 rows differ from the ledger"):
        store.publish(run.run_id, guards=PublishSettings(min_user_coverage=0))


def test_rows_of_another_placement_are_no_lists_of_the_run(store: Store) -> None:
    stock(store)
    run = finished(store)
    execute(store, "UPDATE recommendations_all SET placement = 'elsewhere' WHERE user_id = 'u2'")
    with pytest.raises(PublishGuardError, match="1 rows differ from the ledger"):
        store.publish(run.run_id, guards=PublishSettings(min_user_coverage=0))


def test_prune_keeps_the_newest_published_runs_and_the_way_back(store: Store) -> None:
    ids = [night(store, version) for version in ("1", "22", "333", "4444")]  # each night keeps two
    assert [store.run(one)["pruned_at"] is None for one in ids] == [False, False, True, True]
    assert store.prune(2) == 0
    assert store.rollback() == ids[2]
    with pytest.raises(NotFoundError, match="no earlier run"):
        store.rollback()
    with pytest.raises(NotFoundError, match="it is pruned"):
        store.publish(ids[0])
    waiting, working = finished(store), store.begin_run("recommend", OTHER)
    assert store.prune(1) == 1  # the run that was rolled back
    assert store.run(waiting.run_id)["pruned_at"] is store.run(working.run_id)["pruned_at"] is None
    assert _count(store, "recommendations_all", ids[3]) == 0
    assert _count(store, "recommendations_all", ids[2]) == SHARDS * 15 + 1
    invariants(store)


def test_lists_of_users_known_and_unknown(store: Store) -> None:
    assert store.recommendations(["u1"]).height == 0  # nothing published yet
    store.publish(finished(store).run_id)
    found = store.recommendations(["nobody", "u2", "u1", "u2"])
    assert found.select("user_id", "rank", "product_id", "score").rows() == [
        ("nobody", 1, "a", 0.1),
        ("u2", 1, "b", 0.4),
        ("u1", 1, "a", 0.9),
        ("u1", 2, "b", 0.5),
    ]
    assert store.recommendations(["u1"], k=1)["product_id"].to_list() == ["a"]
    assert store.recommendations([]).height == 0
    assert store.recommendations(["u1"], placement="nowhere").height == 0
    many = store.recommendations([f"x{place}" for place in range(1203)])
    assert many["user_id"].n_unique() == 1203


def test_a_reader_sees_one_run_through_a_publication(store: Store) -> None:
    stock(store)
    first, second = finished(store, shard(0, "1")), finished(store, shard(0, "22"))
    store.publish(first.run_id)
    query = sa.text("SELECT run_id, COUNT(*) FROM recommendations GROUP BY run_id")
    with store.dialect.snapshot(store.engine) as reader:
        before = reader.execute(query).all()
        store.publish(second.run_id)
        assert reader.execute(query).all() == before == [(first.run_id, shard(0, "1").height)]
    assert fetch_rows(store.engine, str(query), {}) == [(second.run_id, shard(0, "22").height)]


def test_embeddings_are_written_when_they_changed_only(store: Store) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    hashes = np.asarray([1, 2**64 - 1, 3], np.uint64)
    assert store.write_embeddings(["a", "b", "c"], vectors, "m1", hashes) == 3
    assert store.write_embeddings(["a", "b", "c"], vectors + 1, "m1", hashes) == 0
    assert store.write_embeddings(["a", "b"], vectors[:2] + 1, "m1", np.asarray([9, 2**64 - 1], np.uint64)) == 1
    kept = fetch_rows(
        store.engine, "SELECT product_id, content_hash, dim, vector FROM product_embeddings ORDER BY 1", {}
    )
    assert [(name, text, dim) for name, text, dim, _ in kept] == [("a", f"{9:016x}", 4), ("b", "f" * 16, 4)]
    assert np.frombuffer(kept[0][3], "<f4").tolist() == [1, 2, 3, 4]
    assert np.frombuffer(kept[1][3], "<f4").tolist() == [4, 5, 6, 7]
    assert store.write_embeddings(["a", "b"], vectors[:2], "m2", hashes[:2]) == 2
    assert store.write_embeddings([], np.zeros((0, 4), np.float32), "m2", hashes[:0]) == 0
    assert fetch_rows(store.engine, "SELECT COUNT(*) FROM product_embeddings", {}) == [(0,)]


def test_old_rows_go_in_pieces_and_what_a_killed_prune_left_goes_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_orders, "DELETE_BATCH_ROWS", 7)
    old, new = night(store, "1"), night(store, "22")
    newest = finished(store)
    store.publish(newest.run_id)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store.dialect), "delete_run_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            store.prune(1)
    assert held(store).keys() == {old, new, newest.run_id}
    with pytest.raises(NotFoundError, match="it is pruned"):  # half gone or not, nobody can be pointed to it
        store.publish(old)
    assert store.prune(1) == 0
    assert held(store) == {new: SHARDS * 15 + 1, newest.run_id: GOOD.height}
    invariants(store)
