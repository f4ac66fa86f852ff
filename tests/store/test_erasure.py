"""Users who are forgotten: gone from every table and every run, never back, and the store's promises hold."""

from __future__ import annotations

import html
import json
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


ID = st.text(st.characters(exclude_categories=["C", "Z"], max_codepoint=0x2FFF), min_size=1, max_size=12)
WORD = st.from_regex(r"[a-z0-9]{1,8}(?:[-.@_][a-z0-9]{1,4}){0,3}", fullmatch=True)
SEPARATOR = st.sampled_from(
    [",", ";", "|", "\t", " ", ", ", '"', "'", '","', ":", "=", "/", "(", ")", "<", ">", "\n", "&", "#"]
)


def _rows_that_name(user_id: str, before: str, after: str) -> dict[str, str]:
    """Rejected rows of each form, as JSON."""
    text = f"x{before}{user_id}{after}y"
    return {
        "cell": json.dumps({"user_id": user_id, "product_id": "p"}, ensure_ascii=False),
        "ascii": json.dumps({"user_id": user_id}),
        "cell with spaces": json.dumps({"user_id": f" {user_id} "}),
        "nested": json.dumps({"items": [{"by": {"user": user_id}}]}),
        "key": json.dumps({"users": {user_id: 1}}),
        "JSON in a cell": json.dumps({"attributes": json.dumps({"user": user_id})}),
        "JSON line": json.dumps({"line": json.dumps({"user_id": user_id, "t": 1})[:-1]}),
        "JSON in JSON": json.dumps({"line": json.dumps({"a": json.dumps({"b": user_id})})}),
        "raw line": json.dumps({"line": text}, ensure_ascii=False),
        "quoted": json.dumps({"line": 'x,"' + user_id.replace('"', '""') + '",y'}),
        "HTML": json.dumps({"line": f"x{before}{html.escape(user_id)}{after}y"}),
        "URL": json.dumps({"line": f"https://shop.example/?user={quote(user_id, safe='')}&x=1"}),
        "no JSON": text,
    }


@given(user_id=st.one_of(ID, WORD), before=SEPARATOR, after=SEPARATOR)
def test_an_id_is_found_in_every_form_and_place(user_id: str, before: str, after: str) -> None:
    erased = ErasedUsers(frozenset({user_hash(user_id)}))
    for form, row_json in _rows_that_name(user_id, before, after).items():
        assert erased.is_named_in(row_json), (form, row_json)
    assert erased.is_named_in(None, f"x{before}{user_id}{after}y")


@given(user_id=WORD, more=st.from_regex(r"[a-z0-9]", fullmatch=True), before=SEPARATOR, after=SEPARATOR)
def test_a_longer_id_is_another_user(user_id: str, more: str, before: str, after: str) -> None:
    for other in (user_id + more, more + user_id):
        erased = ErasedUsers(frozenset({user_hash(user_id)}), frozenset({user_id}))
        if not ErasedUsers(erased.hashes).is_named_in(None, other):  # 1.10 is the number 1.1
            for form, row_json in _rows_that_name(other, before, after).items():
                assert not erased.is_named_in(row_json), (form, row_json)


@pytest.mark.parametrize(
    ("user_id", "row_json", "is_named"),
    [
        ("123", '{"user_id": 123}', True),
        ("123", '{"user_id": 123.0}', True),
        ("123", '{"line": "x;123.0;y"}', True),
        ("123", '{"user_id": 1.23e2}', True),
        ("123", '{"user_id": 1234}', False),
        ("123", '{"user_id": 12.3}', False),
        ("123.0", '{"user_id": 123.0}', True),
        ("12345678901234567890", '{"user_id": 12345678901234567890}', True),
        ("u1", '{"user_id": "u12", "note": "2u1 u1a"}', False),
        ("u1", '{"note": "order of u1, late"}', True),
        ("user", '{"user_id": "u12"}', False),
        ("anna maria", '{"line": "7;anna maria;x"}', True),
        ("anna@example.com", '{"line": "\\"ANNA\\" <anna@example.com>"}', True),
        ("a,b", '{"line": "7,\\"a,b\\",x"}', True),
        ("Zo\u00eb", '{"line": "7;Zo\\\\u00eb;x"}', True),
        ("\U0001f600x", '{"line": "7;\\\\ud83d\\\\ude00x;x"}', True),
        ("A&B", '{"line": "7;A&amp;B;x"}', True),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", '{"line": "a,3f2504e0-4f89-11d3-9a0c-0305e82c3301,b"}', True),
    ],
)
def test_numbers_words_and_escapes(user_id: str, row_json: str, is_named: bool) -> None:
    assert ErasedUsers(frozenset({user_hash(user_id)})).is_named_in(row_json) is is_named


def test_an_id_of_many_words_is_found_while_it_is_erased() -> None:
    name = "-".join("abcdefghijklmnopqrst")
    row = json.dumps({"line": f"x;{name};y"})
    assert ErasedUsers(frozenset({user_hash(name)}), frozenset({name})).is_named_in(row)
    assert not ErasedUsers(frozenset({user_hash(name)}), frozenset({name})).is_named_in(
        json.dumps({"line": f"{name}u"})
    )
    assert ErasedUsers(frozenset({user_hash(name)})).is_named_in(json.dumps({"user_id": name}))


@pytest.mark.parametrize("name", ["somebody-4711", "48213377", "J\u00fcrgen & Zo\u00eb", 'a "quoted" one'])
def test_no_byte_is_left_of_rejected_rows_of_any_form(tmp_path: Path, name: str) -> None:
    forms = {name, html.escape(name), quote(name, safe=""), json.dumps(name)[1:-1], name.replace('"', '""')}
    rows = list(_rows_that_name(name, ";", ";").values())
    if name.isdigit():
        rows += [f'{{"user_id": {name}}}', f'{{"user_id": {name}.0}}']
    rows.append(json.dumps({"user_id": "other"}))
    with Store.open(f"sqlite:///{tmp_path}/shop.db") as store:
        store.init()
        write_inputs(store, {}, _rejects(*rows), sources=["e.csv"])
        erase_users(store, [name])
        written = fetch_rows(store.engine, "SELECT row_json FROM rejected_rows ORDER BY row_no", {})
        assert written == [(None,)] * (len(rows) - 1) + [('{"user_id": "other"}',)]
        again = load_erased_users(store).blank_rejected(_rejects(*rows))
        write_inputs(store, {}, again, sources=["e.csv"])
        assert fetch_rows(store.engine, "SELECT row_json FROM rejected_rows ORDER BY row_no", {}) == written
    for path in tmp_path.iterdir():
        assert not any(form.encode() in path.read_bytes() for form in forms), path.name


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
