"""`complete` and `check --odd`, by command and from Python: what is written, what is said, what is refused."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import polars as pl
import pytest

import recsys as package
from recsys.errors import NotFoundError
from tests.e2e.projects import PRODUCTS, Run, new_project, rows

pytestmark = pytest.mark.e2e
ALL = "SELECT product_id, attribute, value, confidence, model_version FROM predicted_attributes ORDER BY 1, 2"


def _execute(project: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(project / "recsys.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def _tell(project: Path, product: str, word: str) -> None:
    """Let a product's title, brand and category say a word."""
    statement = "UPDATE products SET title = ?, brand = ?, category = ? WHERE product_id = ?"
    _execute(project, statement, f"A {word} thing", f"{word} house", f"{word} things", product)


def test_gaps_are_filled_and_written_once(copied: Path, recsys: Run) -> None:
    # title, brand and category tell the size, which every third product lacks
    stored = dict(rows(copied, "SELECT product_id, attributes FROM products"))
    for at, (product, text) in enumerate(sorted(stored.items())):
        held = json.loads(text) if text else {}
        held.pop("size", None)
        if at % 3:
            held["size"] = ["giant", "tiny"][at % 2]
        _execute(copied, "UPDATE products SET attributes = ? WHERE product_id = ?", json.dumps(held), product)
        word = ["giant", "tiny"][at % 2]
        _tell(copied, product, word)
    outcome = recsys("complete", "--attribute", "size", "--min-confidence", "0", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    (told,) = document["rows"]
    gone = -(-PRODUCTS // 3)
    assert (told["attribute"], told["missing"], told["filled"], told["known"]) == ("size", gone, gone, PRODUCTS - gone)
    assert told["accuracy"] > 0.8 > told["majority"] and 0 <= told["calibration_error"] < 0.3 and told["why_not"] == ""
    assert document["counts"] == {"products": 60, "attributes": 1, "missing": gone, "filled": gone, "unsure": 0}
    written = rows(copied, ALL)
    order = sorted(stored)
    right = [value == ["giant", "tiny"][order.index(product) % 2] for product, _, value, *_ in written]
    assert len(right) == gone and sum(right) > 0.8 * gone
    assert all(order.index(product) % 3 == 0 and name == "size" for product, name, *_ in written)
    assert all(0 < confidence <= 1 and len(version) == 12 for *_, confidence, version in written)
    assert recsys("complete", "--attribute", "size", "--min-confidence", "0", "-C", copied).code == 0
    assert rows(copied, ALL) == written
    sure = recsys("complete", "--attribute", "size", "--min-confidence", "1", "-C", copied, "--json").document
    assert sure["counts"]["unsure"] == gone and rows(copied, ALL) == []


def test_all_attributes_say_what_became_of_them(copied: Path, recsys: Run) -> None:
    _execute(copied, "INSERT INTO predicted_attributes VALUES ('p0001', 'gone', 'x', 0.9, 'old')")
    outcome = recsys("complete", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    told = {row["attribute"]: row for row in outcome.document["rows"]}
    assert {"brand", "category", "colour", "variety"} <= set(told) and "price" not in told
    assert "known values; at least 20 are needed" in told["variety"]["why_not"]
    filled = {
        name: count for name, count in rows(copied, "SELECT attribute, COUNT(*) FROM predicted_attributes GROUP BY 1")
    }
    assert filled == {name: row["filled"] for name, row in told.items() if row["filled"]}
    shown = recsys("complete", "-C", copied, "--attribute", "variety")
    assert shown.code == 0 and "at least 20" in shown.out


def test_what_is_not_there_is_refused(copied: Path, recsys: Run, tmp_path: Path, drawn: Path) -> None:
    wrong = recsys("complete", "--attribute", "color", "-C", copied, "--json")
    assert wrong.code == 2 and wrong.document["error"].endswith("did you mean 'colour'?")
    assert recsys("complete", "--attribute", "price", "-C", copied).code == 2
    assert recsys("complete", "--min-confidence", "2", "-C", copied).code == 2
    bare = new_project(tmp_path / "bare")
    assert recsys("ingest", drawn, "-C", bare).code == 0
    for command in (("complete",), ("check", "--odd")):
        outcome = recsys(*command, "-C", bare, "--json")
        assert outcome.code == 1 and "run `recsys train`" in outcome.document["error"]


def test_odd_products_come_first_in_check(copied: Path, recsys: Run) -> None:
    products = [name for (name,) in rows(copied, "SELECT product_id FROM products ORDER BY 1")]
    for at, product in enumerate(products):
        word = ["golden", "silver"][at % 2]
        _tell(copied, product, word)
        wrong = {6: "silver", 9: "golden"}.get(at, word)
        text = json.dumps({"sort": f"{wrong} sort"})
        _execute(copied, "UPDATE products SET attributes = ? WHERE product_id = ?", text, product)
    before = rows(copied, ALL)
    document = recsys("check", "--odd", "-C", copied, "--json").document
    found = {row["product_id"]: row for row in document["rows"] if row["what"] == "sort"}
    assert set(found) == {products[6], products[9]}
    one = found[products[6]]
    assert (one["held"], one["expected"]) == ("silver sort", "golden sort") and one["sure"] > 0.8
    assert [row["sure"] for row in document["rows"]] == sorted((row["sure"] for row in document["rows"]), reverse=True)
    assert document["counts"]["odd"] >= 2 and "missing values" in document["tables"]
    assert rows(copied, ALL) == before
    with package.open(copied) as shop:
        assert shop.odd(k=1).rows(named=True) == [{**document["rows"][0]}]


def test_the_python_face_hands_out_what_it_writes(copied: Path) -> None:
    with package.open(copied) as shop:
        frame = shop.complete(["category", "colour"], min_confidence=0.0)
        assert frame.columns == ["product_id", "attribute", "value", "confidence", "model_version"]
        assert frame.sort("product_id", "attribute").rows() == rows(copied, ALL) and frame.height
        assert set(frame["attribute"]) <= {"category", "colour"}
        assert shop.complete(["colour"]).filter(pl.col("confidence") < 0.5).is_empty()
        with pytest.raises(NotFoundError, match="unknown attribute 'nope'"):
            shop.complete(["nope"])
