"""Users who are forgotten: gone from every table and every run, never back, and the store's promises hold."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from recsys.config import DataSettings, PublishSettings
from recsys.data.erased_users import CODE, ErasedUsers, user_hash
from recsys.data.ingest import ingest
from recsys.data.input_sources import inputs_from_frames
from recsys.db.engine import fetch_rows
from recsys.errors import UsageError
from recsys.store.erasure import erase_users, load_erased_users
from recsys.store.input_tables import write_inputs
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.faults.invariants import adds_up
from tests.store.samples import GOOD, NO_REJECTS, finished, invariants, lists, stock, table

EVENTS = pl.DataFrame(
    {"user_id": ["u1", "u1", "u10", "u2"], "product_id": ["a", "b", "a", "b"], "occurred_at": [100, 200, 300, 400]}
).with_columns(
    pl.lit("purchase").alias("event_type"),
    pl.lit(1.0).alias("quantity"),
    *(pl.lit(None).alias(n) for n in ("value", "order_id")),
)


def _rejects(*texts: str) -> pl.DataFrame:
    made = [
        ("e.csv", at, "events", "missing_time", "occurred_at", text, text) for at, text in enumerate(texts, start=1)
    ]
    return pl.DataFrame(made, schema=NO_REJECTS.schema, orient="row")


def _filled(store: Store) -> None:
    stock(store)
    users = pl.DataFrame(
        {"user_id": ["u1", "u10", "u2"], "attributes": [None, None, None]}, schema_overrides={"attributes": pl.String}
    )
    bad = _rejects(json.dumps({"user_id": "u1"}), json.dumps({"line": 'a;"u1";b'}), json.dumps({"user_id": "u10"}))
    write_inputs(store, {"users": users, "events": EVENTS}, bad, sources=["e.csv"])


def test_every_row_of_a_user_goes_and_nobody_elses(store: Store) -> None:
    _filled(store)
    first = finished(store)
    store.publish(first.run_id, guards=PublishSettings())
    second = finished(store, lists(u1=[("b", 1.0)], u10=[("a", 0.5)], default=[("a", 0.1)]))
    with store.begin_run("recommend", RunManifest("other", "data", "config")) as run:
        run.write_shard(0, lists(u1=[("a", 0.9)]), n_users=1)
    gone = erase_users(store, ["u1", "nobody"])
    assert (gone.users, gone.events, gone.lists, gone.rejected, gone.runs) == (1, 2, 3, 2, 1)
    for name in ("users", "events", "recommendations"):
        assert "u1" not in {row[0] for row in fetch_rows(store.engine, f"SELECT user_id FROM {name}", {})}, name
    assert [row[0] for row in fetch_rows(store.engine, "SELECT user_id FROM events ORDER BY 1", {})] == ["u10", "u2"]
    bad = fetch_rows(store.engine, "SELECT code, row_json FROM rejected_rows ORDER BY row_no", {})
    assert bad == [("missing_time", None), ("missing_time", None), ("missing_time", '{"user_id": "u10"}')]
    invariants(store)
    store.publish(second.run_id, guards=PublishSettings(min_user_coverage=0.5))
    assert {row[0] for row in fetch_rows(store.engine, "SELECT user_id FROM recommendations", {})} == {
        "u10",
        "__default__",
    }
    store.rollback()
    assert {row[0] for row in fetch_rows(store.engine, "SELECT user_id FROM recommendations", {})} == {
        "u2",
        "__default__",
    }
    erase_users(store, ["u2", "u1"])
    invariants(store)
    assert store.row_counts()["users"] == 1


def test_a_forgotten_user_does_not_come_in_again_and_is_counted(store: Store) -> None:
    _filled(store)
    erase_users(store, ["u1"])
    before = table(store, "events")
    products = {"product_id": ["a", "b"], "title": ["x", "y"]}
    given = {
        "products": pl.DataFrame(products),
        "events": EVENTS.vstack(EVENTS[:1].with_columns(product_id=pl.lit("zz"))),
    }
    judged = ingest(
        inputs_from_frames(given), settings=DataSettings(max_bad_fraction=1), erased_users=load_erased_users(store)
    )
    adds_up(judged.counts)
    assert judged.counts["events"]["filtered_by"] == {CODE: 2}
    assert judged.counts["events"]["rejected_by"] == {"unknown_product": 1}
    assert judged.rejected["row_json"].to_list() == [None], "the rejected row was of a forgotten user"
    write_inputs(store, judged.accepted, judged.rejected, sources=judged.sources)
    assert table(store, "events") == before


def test_no_byte_of_the_user_is_left_in_a_file(tmp_path: Path) -> None:
    name = "somebody-very-special-4711"
    file = tmp_path / "shop.db"
    with Store.open(f"sqlite:///{file}") as store:
        store.init()
        stock(store)
        events = EVENTS.with_columns(user_id=pl.Series([name, name, "u10", "u2"]))
        bad = _rejects(json.dumps({"user_id": name}))
        write_inputs(store, {"events": events}, bad, sources=["e.csv"])
        old = finished(store, GOOD.with_columns(user_id=pl.col("user_id").replace("u1", name)))
        store.publish(old.run_id)
        for _ in range(3):  # lists of pruned runs lie in pages that are free
            store.publish(finished(store, GOOD.with_columns(user_id=pl.col("user_id").replace("u1", name))).run_id)
        store.prune(1)
        assert any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())
        erase_users(store, [name])
        assert [path for path in tmp_path.iterdir() if name.encode() in path.read_bytes()] == []
        write_inputs(store, {"events": EVENTS[2:]}, NO_REJECTS, sources=["e.csv"])
        store.rollback()
        assert name not in str(table(store, "recommendations_all"))
    assert [path for path in tmp_path.iterdir() if name.encode() in path.read_bytes()] == []


def test_the_default_list_is_no_user(store: Store) -> None:
    with pytest.raises(UsageError, match="__default__"):
        erase_users(store, ["u1", "__default__"])
    assert fetch_rows(store.engine, "SELECT COUNT(*) FROM forgotten_users", {}) == [(0,)]


def test_ids_are_known_byte_by_byte() -> None:
    gone = ErasedUsers(frozenset({user_hash("\u00dcnal"), user_hash("007")}))
    assert "\u00dcnal" in gone and "U\u0308nal" not in gone and "7" not in gone and "\u00fcnal" not in gone
    assert (
        gone.is_named_in('{"line": "x\\t007;y"}')
        and not gone.is_named_in('{"line": "0070"}')
        and not gone.is_named_in("[1, 2]")
    )
