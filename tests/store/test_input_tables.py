"""What a shop hands in: read twice it is there once, rejects are replaced, both databases hold the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import PublishSettings
from recsys.db.engine import fetch_rows, read_frame
from recsys.store.input_tables import write_inputs
from recsys.store.store import Store
from tests.store.samples import NO_REJECTS, execute, finished, lists, products, table


def _events(**changes: list[object]) -> pl.DataFrame:
    columns: dict[str, list[object]] = {
        "user_id": ["u", "u", "u", "v"],
        "product_id": ["a", "a", "a", "b"],
        "event_type": ["purchase"] * 4,
        "occurred_at": [100, 100, 100, 1_700_000_000],
        "quantity": [1.0, 1.0, 2.0, None],
        "value": [9.5, 9.5, None, 0.1],
        "order_id": [None, None, "o1", None],
    }
    return pl.DataFrame({**columns, **changes})


def _rejects(source: str, row: int) -> pl.DataFrame:
    values = (source, row, "products", "bad_number", "price", "12,50", '{"price": "12,50"}')
    return pl.DataFrame([values], schema=NO_REJECTS.schema, orient="row")


def test_reading_the_same_rows_again_changes_nothing(store: Store) -> None:
    users = pl.DataFrame({"user_id": ["u", "v"], "attributes": ['{"segment": "b2b"}', None]})
    given_rows = {"products": products(), "users": users, "events": _events()}
    assert write_inputs(store, given_rows, NO_REJECTS, sources=["x"]) == {}
    before = {name: table(store, name) for name in given_rows}
    assert write_inputs(store, given_rows, NO_REJECTS, sources=["x"]) == {}
    assert {name: table(store, name) for name in given_rows} == before
    assert store.row_counts() == {"products": 4, "users": 2, "events": 4, "rejected_rows": 0}


def test_replaced_tables_are_those_of_the_rows_alone(store: Store) -> None:
    users = pl.DataFrame(
        {"user_id": ["u", "v"], "attributes": [None, None]}, schema_overrides={"attributes": pl.String}
    )
    write_inputs(store, {"products": products(), "users": users, "events": _events()}, NO_REJECTS, sources=["x"])
    kept = {"products": products()[:1], "users": users[:1], "events": _events()[:1]}
    removed = write_inputs(store, kept, NO_REJECTS, sources=["x"], replace=("products", "events", "users"))
    assert removed == {"products": 2, "events": 4, "users": 2}
    assert store.row_counts() == {"products": 4, "users": 1, "events": 1, "rejected_rows": 0}
    sold = fetch_rows(store.engine, "SELECT product_id FROM products WHERE available", {})
    assert [product_id for (product_id,) in sold] == products()["product_id"].to_list()[:1]


def test_identical_event_lines_are_numbered_not_lost(store: Store) -> None:
    for _ in range(2):
        write_inputs(store, {"events": _events()}, NO_REJECTS, sources=["x"])
    found = fetch_rows(
        store.engine, "SELECT order_id, line_no, quantity FROM events WHERE user_id = 'u' ORDER BY 1, 2", {}
    )
    assert found == [("", 0, 1.0), ("", 1, 1.0), ("o1", 0, 2.0)]


def test_a_product_is_stamped_when_its_content_moved_only(store: Store) -> None:
    write_inputs(store, {"products": products()}, NO_REJECTS, sources=["x"])
    execute(store, "UPDATE products SET updated_at = '2001-01-01 00:00:00.000000'")
    changed = products(price=[1.0, 2.0, 3.0, 4.0], content_hash=["1", "new", "3", "4"])
    write_inputs(store, {"products": changed}, NO_REJECTS, sources=["x"])
    found = read_frame(
        store.engine, "SELECT product_id, price, CAST(updated_at AS CHAR(30)) AS moved FROM products ORDER BY 1"
    )
    assert found["price"].to_list() == [1.0, 2.0, 3.0, 4.0]
    assert found["moved"].str.starts_with("2001").to_list() == [True, False, True, True]


def test_columns_that_are_not_given_keep_what_they_hold(store: Store) -> None:
    write_inputs(store, {"products": products()}, NO_REJECTS, sources=["x"])
    prices = pl.DataFrame({"product_id": ["a"], "price": [5.0], "content_hash": ["9"]})
    write_inputs(store, {"products": prices}, NO_REJECTS, sources=["x"], image_files={"b": "b.jpg"})
    found = fetch_rows(store.engine, "SELECT product_id, title, price, image FROM products ORDER BY product_id", {})
    assert found[:2] == [("a", "Apple", 5.0, None), ("b", "Bread", None, "b.jpg")]


def test_the_last_of_two_rows_with_one_key_wins(store: Store) -> None:
    twice = pl.DataFrame({"product_id": ["p", "q", "p"], "title": ["first", "other", "last"]})
    write_inputs(store, {"products": twice}, NO_REJECTS, sources=["x"])
    assert fetch_rows(store.engine, "SELECT product_id, title FROM products ORDER BY 1", {}) == [
        ("p", "last"),
        ("q", "other"),
    ]


def test_rejects_of_a_source_are_replaced_and_others_stay(store: Store) -> None:
    write_inputs(store, {}, _rejects("a.csv", 4), sources=["a.csv"])
    write_inputs(store, {}, _rejects("b.csv", 5), sources=["b.csv"])
    write_inputs(store, {}, _rejects("a.csv", 6), sources=["a.csv"])
    found = "SELECT source, row_no, code, value_excerpt FROM rejected_rows ORDER BY source"
    assert fetch_rows(store.engine, found, {}) == [
        ("a.csv", 6, "bad_number", "12,50"),
        ("b.csv", 5, "bad_number", "12,50"),
    ]
    write_inputs(store, {}, NO_REJECTS, sources=["a.csv", "b.csv"])
    assert store.row_counts()["rejected_rows"] == 0


def test_a_failing_ingest_leaves_nothing(store: Store) -> None:
    broken = _rejects("x", 1).with_columns(pl.lit(None, pl.String).alias("code"))
    try:
        write_inputs(store, {"products": products()}, broken, sources=["x"])
    except Exception as error:
        assert "null" in str(error).lower()
    else:
        raise AssertionError("a reject without a code was taken")
    assert store.row_counts() == {"products": 0, "users": 0, "events": 0, "rejected_rows": 0}


# Unicode in every normal form, what COPY and SQL would read as marks of their own, line ends, leading zeros.
AWKWARD = [
    "007",
    "7",
    "e\u0301",
    "é",
    "A",
    "a",
    "\\N",
    "\\.",
    "it's",
    'say "x"',
    "a\tb",
    "line\r\nend",
    "",
    " ",
    "🛒",
    "%s",
    ":x",
]


def test_both_databases_hold_the_same_rows(tmp_path: Path, postgres_url: str) -> None:
    def filled(url: str) -> dict[str, list[tuple[object, ...]]]:
        with Store.open(url) as store:
            store.init()
            count = len(AWKWARD)
            frame = pl.DataFrame(
                {
                    "product_id": AWKWARD,
                    "title": AWKWARD[::-1],
                    "price": [0.1, 1e300, -2.5e-300, 1 / 3, None, *range(count - 5)],
                    "available": [True, False, None, *[True] * (count - 3)],
                    "attributes": ['{"é": "\\u0000", "n": 1e3}', None, *["{}"] * (count - 2)],
                    "created_at": [0, -1, None, 2**33, *[1_700_000_000] * (count - 4)],
                    "content_hash": ["h"] * count,
                },
                strict=False,
            )
            events = _events(user_id=AWKWARD[:4], product_id=AWKWARD[4:8])
            rejects = pl.concat([_rejects(name, 2**40) for name in AWKWARD])
            write_inputs(store, {"products": frame, "events": events}, rejects, sources=AWKWARD)
            users = {name: [("A", 0.25), ("007", -1e-9)] for name in AWKWARD}
            run = finished(store, lists(**users, default=[("A", float("nan"))]))
            store.publish(run.run_id)
            order = [
                row[0] for row in fetch_rows(store.engine, "SELECT product_id FROM products ORDER BY product_id", {})
            ]
            assert order == sorted(AWKWARD, key=str.encode)
            return {
                "products": table(store, "products", without=("updated_at", "created_at", "available", "attributes")),
                "attributes": fetch_rows(
                    store.engine, "SELECT CAST(attributes AS TEXT) FROM products ORDER BY product_id", {}
                ),
                "instants": fetch_rows(store.engine, _INSTANTS[store.engine.dialect.name], {}),
                "events": table(store, "events", without=("occurred_at",)),
                "rejected_rows": table(store, "rejected_rows"),
                "lists": table(store, "recommendations", without=("run_id", "generated_at")),
                "for a user": store.recommendations(["é", "nobody"]).rows(),
            }

    assert filled(f"sqlite:///{tmp_path / 'shop.db'}") == filled(postgres_url)


_INSTANTS = {
    "sqlite": """SELECT product_id, CAST(strftime('%s', created_at) AS INTEGER), available = 1 FROM products
        WHERE available IS NOT NULL ORDER BY product_id""",
    "postgresql": """SELECT product_id, CAST(EXTRACT(EPOCH FROM created_at) AS BIGINT), CAST(available AS INT)
        FROM products WHERE available IS NOT NULL ORDER BY product_id""",
}
_TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=12)


@given(texts=st.dictionaries(_TEXT, _TEXT | st.none(), min_size=1, max_size=8))
def test_every_text_comes_back_as_it_went_in(store: Store, texts: dict[str, str | None]) -> None:
    execute(store, "DELETE FROM products")
    frame = pl.DataFrame(
        {"product_id": list(texts), "title": list(texts.values())}, schema_overrides={"title": pl.String}
    )
    write_inputs(store, {"products": frame}, NO_REJECTS, sources=["x"])
    assert dict(fetch_rows(store.engine, "SELECT product_id, title FROM products", {})) == texts


def test_views_show_what_the_tables_hold(store: Store) -> None:
    from recsys.store.run_ledger import RunManifest

    write_inputs(store, {"products": products()}, NO_REJECTS, sources=["x"])
    manifest = RunManifest("m", "d", "c")
    with store.begin_run("cluster", manifest, placement="clusters") as run:
        labels = {"cluster_id": [0, 1], "label": ["fruit", "bakery"], "size": [2, 1], "terms": ['["red"]', None]}
        run.write_table("clusters_all", pl.DataFrame(labels))
        members = {"product_id": ["a", "c", "b"], "cluster_id": [0, 0, 1], "distance": [0.5, 0.25, 0.0]}
        for _ in range(2):  # a second try replaces the first
            run.write_table("cluster_members_all", pl.DataFrame(members))
        run.finish()
        assert fetch_rows(store.engine, "SELECT * FROM product_clusters", {}) == []
        store.publish(run.run_id, guards=PublishSettings())
    with store.begin_run("similar", manifest, placement="similar") as near:
        close = {"product_id": ["a", "a"], "rank": [1, 2], "neighbour_id": ["b", "c"], "score": [0.9, 0.8]}
        near.write_table("similar_products_all", pl.DataFrame(close))
        near.finish()
        store.publish(near.run_id)
    lists_run = finished(store)
    store.publish(lists_run.run_id, guards=PublishSettings())
    shown = fetch_rows(
        store.engine, "SELECT product_id, label, run_id, model_version FROM product_clusters ORDER BY 1", {}
    )
    assert shown == [
        (name, label, run.run_id, "m") for name, label in (("a", "fruit"), ("b", "bakery"), ("c", "fruit"))
    ]
    labelled = fetch_rows(store.engine, "SELECT cluster_id, label, size FROM cluster_labels ORDER BY 1", {})
    assert labelled == [(0, "fruit", 2), (1, "bakery", 1)]
    assert fetch_rows(
        store.engine, "SELECT product_id, rank, neighbour_id, run_id FROM similar_products ORDER BY rank", {}
    ) == [
        ("a", 1, "b", near.run_id),
        ("a", 2, "c", near.run_id),
    ]
    columns = "user_id, rank, product_id, score, reason, reason_product_id"
    kept = f"SELECT {columns} FROM recommendations_all WHERE run_id = '{lists_run.run_id}' ORDER BY 1, 2"
    assert fetch_rows(store.engine, f"SELECT {columns} FROM recommendations ORDER BY 1, 2", {}) == fetch_rows(
        store.engine, kept, {}
    )
    generated = fetch_rows(store.engine, "SELECT COUNT(*) FROM recommendations WHERE generated_at IS NOT NULL", {})
    assert generated == [(4,)]
