"""Each row is used, rejected with a reason, or filtered; each fault has its code and its sentence."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import DataSettings
from recsys.data import file_readers as files
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data.validation import ValidationResult, validate
from recsys.errors import DataContractError

NOW = 1_700_000_000
LENIENT = DataSettings(max_bad_fraction=1)


def _check(table: str, rows: list[dict[str, Any]] | pl.DataFrame, **options: Any) -> ValidationResult:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    return validate(table, frame, source="x.csv", settings=options.pop("settings", LENIENT), now=NOW, **options)


def _good(table: str) -> dict[str, Any]:
    if table == "events":
        return {"user_id": "u", "product_id": "p", "occurred_at": "2023-01-01", "event_type": "view", "quantity": "1"}
    if table == "users":
        return {"user_id": "u", "attributes": "{}"}
    return {"product_id": "p", "title": "A", "price": "1.5", "available": "1", "attributes": "{}", "created_at": ""}


FAULTS = [
    ("products", {"product_id": " "}, "missing_id", "no product_id; give every row one"),
    ("products", {"attributes": '{"a": "\\u0000"}'}, "nul_in_text", "a NUL character in column attributes"),
    ("products", {"title": "a\x00b"}, "nul_in_text", "a NUL character in column title"),
    ("products", {"product_id": "x" * 256}, "too_long", "is longer than 255 characters"),
    ("events", {"user_id": ""}, "missing_id", "no user_id"),
    ("events", {"occurred_at": ""}, "missing_time", "no occurred_at; give every event its time"),
    ("events", {"occurred_at": "31.12.2022"}, "bad_time", "occurred_at '31.12.2022' is no time (column occurred_at)"),
    ("events", {"occurred_at": "-5"}, "bad_time", "occurred_at '-5' is no time"),
    ("events", {"occurred_at": str(NOW + 90_000)}, "future_time", "lies more than 24 hours ahead"),
    ("events", {"product_id": "q"}, "unknown_product", "product_id 'q' is not in the catalogue; ingest products first"),
    ("events", {"quantity": "-1"}, "negative_number", "write the amount and event_type return"),
    ("events", {"user_id": "__default__"}, "reserved_id", "user_id '__default__' is reserved"),
    ("users", {"user_id": "__default__"}, "reserved_id", "user_id '__default__' is reserved"),
]


@pytest.mark.parametrize(("table", "fault", "code", "words"), FAULTS)
def test_each_fault_has_its_code_and_sentence(table: str, fault: dict[str, str], code: str, words: str) -> None:
    other = _good(table) | ({"product_id": "p"} if table == "events" else {f"{table[:-1]}_id": "other"})
    checked = _check(table, [_good(table), _good(table) | fault, other], known_products=["p"])
    assert checked.rejected["code"].to_list() == [code]
    assert checked.rejected.columns == list(schema.REJECTED_COLUMNS)
    message = rejects.message(checked.rejected.row(0, named=True))
    assert message.startswith(f"{table} row 2: ")
    assert words in message
    assert "\x00" not in "".join(str(cell) for cell in checked.rejected.row(0))
    assert checked.accepted.height == 2


CELL_FAULTS = [
    (
        "products",
        {"price": "12,50"},
        "bad_number",
        "price '12,50' is not a number (column price); set [data] decimal = \",\"",
    ),
    (
        "products",
        {"price": "cheap"},
        "bad_number",
        "price 'cheap' is not a number (column price); mend it or leave it empty",
    ),
    ("products", {"price": "-3"}, "negative_number", "price '-3' is below zero (column price); leave it empty if"),
    ("products", {"available": "perhaps"}, "bad_truth", "available 'perhaps' is neither true nor false"),
    ("products", {"attributes": "[1]"}, "bad_json", "attributes '[1]' is no JSON object (column attributes); write {}"),
    ("products", {"created_at": "soon"}, "bad_time", "created_at 'soon' is no time"),
    ("users", {"attributes": "nope"}, "bad_json", "attributes 'nope' is no JSON object"),
]


@pytest.mark.parametrize(("table", "fault", "code", "words"), CELL_FAULTS)
def test_a_bad_optional_cell_costs_the_cell_and_not_the_row(
    table: str, fault: dict[str, str], code: str, words: str
) -> None:
    other = _good(table) | {f"{table[:-1]}_id": "other"}
    checked = _check(table, [other, _good(table) | fault])
    assert checked.accepted.height == 2
    assert checked.rejected.height == 0
    assert checked.accepted[next(iter(fault))].to_list()[1] is None
    assert checked.bad_cells["code"].to_list() == [code]
    message = rejects.message(checked.bad_cells.row(0, named=True))
    assert message.startswith(f"{table} row 2: ")
    assert words in message


def test_a_column_that_is_mostly_unreadable_is_refused() -> None:
    rows = [_good("products") | {"product_id": f"p{n}", "price": "12,50" if n < 12 else "1"} for n in range(20)]
    with pytest.raises(DataContractError, match=r"12 of 20 cells of column price of x.csv cannot be parsed"):
        _check("products", rows)


def test_the_row_that_was_refused_can_be_looked_at() -> None:
    row = _check("events", [_good("events") | {"quantity": "x"}, _good("events")]).rejected.row(0, named=True)
    assert json.loads(row["row_json"])["event_type"] == "view"
    assert (row["column_name"], row["value_excerpt"], row["source"]) == ("quantity", "x", "x.csv")


def test_unknown_event_types_are_left_out_and_named_or_mapped() -> None:
    rows = [_good("events") | {"event_type": name} for name in ("view", "stared", "stared", "remove_from_cart")]
    checked = _check("events", rows)
    assert checked.accepted.height == 1
    assert checked.filtered == {"unknown_event_type": 3}
    assert any("'stared' 2, 'remove_from_cart' 1" in warning for warning in checked.warnings)
    settings = DataSettings(event_types={"stared": "wishlist", "remove_from_cart": "ignore"})
    checked = _check("events", rows, settings=settings)
    assert checked.accepted["event_type"].to_list() == ["view", "wishlist", "wishlist"]
    assert checked.filtered == {"ignored_event_type": 1}
    assert not checked.warnings


def test_a_comma_is_a_decimal_mark_when_told() -> None:
    settings = DataSettings(decimal=",", max_bad_fraction=1)
    rows = [_good("events") | {"quantity": quantity} for quantity in ("12,50", "3.5")]
    checked = _check("events", rows, settings=settings)
    assert checked.accepted["quantity"].to_list() == [12.5]
    assert 'set [data] decimal = "."' in rejects.message(checked.rejected.row(0, named=True), decimal=",")


def test_the_same_product_twice() -> None:
    rows = [{"product_id": "a", "title": title} for title in ("One", "One", "Two", "One")]
    checked = _check("products", rows)
    assert checked.accepted["title"].to_list() == ["One"]
    assert checked.filtered == {"duplicate": 2}
    assert checked.rejected["row_no"].to_list() == [3]
    message = rejects.message(checked.rejected.row(0, named=True))
    assert message == (
        "products row 3: product_id 'a' stands twice, with different content (the first is kept); mend one"
    )


def test_equal_events_are_numbered_and_none_is_lost() -> None:
    row = _good("events")
    checked = _check("events", [row, row, row | {"event_type": "purchase"}, row])
    assert checked.accepted["line_no"].to_list() == [0, 1, 0, 2]
    assert checked.accepted["occurred_at"].dtype == pl.Int64


def test_event_types_have_other_names_and_a_default() -> None:
    rows = [_good("events") | {"event_type": name} for name in ("Click", "refund", None, "PURCHASE", "addToCart")]
    checked = _check("events", rows)
    assert checked.accepted["event_type"].to_list() == ["view", "return", "purchase", "purchase", "add_to_cart"]
    assert any("1 without event_type" in note for note in checked.notes)


def test_units_of_times_are_told() -> None:
    rows = [_good("events") | {"occurred_at": at} for at in ("1600000000", "1600000000000")]
    warning = _check("events", rows).warnings[0]
    assert "1 as seconds, 1 as milliseconds" in warning
    assert _check("events", rows[1:]).notes[0] == "events: numbers in column occurred_at were read: 1 as milliseconds"


def test_ids_that_nearly_agree_stay_apart_and_are_told() -> None:
    checked = _check(
        "products", [{"product_id": text} for text in ("A1", "a1", "b", "caf\u00e9", "cafe\u0301", "007", "7")]
    )
    assert checked.accepted.height == 7
    assert "2 groups of ids differ only in case" in checked.warnings[0]


def test_too_many_rejects_break_the_contract() -> None:
    rows = [_good("events") | {"user_id": f"u{n}", "quantity": "12,50" if n < 6 else "1"} for n in range(100)]
    with pytest.raises(DataContractError) as caught:
        _check("events", rows, settings=DataSettings(max_bad_fraction=0.05))
    assert caught.value.exit_code == 3
    assert "6 of 100 rows of x.csv were rejected" in str(caught.value)
    assert "bad_number 6, e.g. events row 1: quantity '12,50' is not a number" in str(caught.value)
    assert _check("events", rows[1:], settings=DataSettings(max_bad_fraction=0.051)).rejected.height == 5


@pytest.mark.parametrize(
    ("table", "words"), [("products", "the catalogue is empty"), ("events", "there are no events")]
)
def test_a_table_without_rows(table: str, words: str) -> None:
    with pytest.raises(DataContractError, match=words) as caught:
        _check(table, pl.DataFrame(schema=dict.fromkeys(_good(table), pl.String)))
    assert caught.value.exit_code == 3
    assert _check("users", pl.DataFrame(schema={"user_id": pl.String})).accepted.height == 0


def test_rows_all_bad_are_no_table_whatever_the_limit() -> None:
    with pytest.raises(DataContractError, match="2 of 2 rows"):
        _check("products", [{"product_id": ""}, {"product_id": None}])


def test_frames_of_pandas_with_gaps() -> None:
    frame = pl.DataFrame({"product_id": [1.0, 2.0], "price": [float("nan"), 3.0], "group_id": [5, None]})
    checked = _check("products", frame)
    assert checked.accepted.select("product_id", "price", "group_id").rows() == [("1", None, "5"), ("2", 3.0, None)]
    assert "floating point" in checked.notes[0]


CELLS = (
    st.sampled_from(
        [
            "",
            " ",
            "a",
            "A",
            "b",
            "12,50",
            "1.5",
            "-1",
            "nan",
            "\x00",
            "{}",
            '{"a":1}',
            "[1]",
            "true",
            "2023-01-01",
            "1e99",
        ]
        + ["1700000000000", "__default__", "view", "x" * 300, "é"]
    )
    | st.none()
)


@given(data=st.data(), table=st.sampled_from(sorted(schema.TABLES)))
def test_rows_in_are_used_or_rejected_or_filtered(data: st.DataObject, table: str) -> None:
    names = [column.name for column in schema.TABLES[table]]
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, CELLS)), min_size=1, max_size=12))
    marks = st.fixed_dictionaries(
        {files.BAD: st.none() | st.just("broken"), files.SKIP: st.none() | st.sampled_from(["no_customer", "other"])}
    )
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String)).hstack(
        pl.DataFrame([data.draw(marks) for _ in rows], schema={files.BAD: pl.String, files.SKIP: pl.String})
    )
    frame = frame.with_columns(pl.int_range(2, len(rows) + 2, dtype=pl.Int64).alias(files.ROW))
    try:
        checked = _check(table, frame, known_products=["a", "b"] if table == "events" else None)
    except DataContractError as error:
        assert f"{len(rows)} of {len(rows)} rows" in str(error)
        return
    assert checked.rows_in == len(rows)
    assert checked.accepted.height + checked.rejected.height + sum(checked.filtered.values()) == len(rows)
    numbers = checked.rejected["row_no"].to_list()
    assert len(set(numbers)) == len(numbers)
    assert set(checked.rejected["code"].to_list()) <= set(rejects._SENTENCES)
    broken = frame.filter(pl.col(files.BAD).is_not_null())[files.ROW].to_list()
    assert set(broken) == set(checked.rejected.filter(pl.col("code") == "bad_row")["row_no"].to_list())
    key = {"products": ["product_id"], "users": ["user_id"]}.get(table)
    if key:
        assert checked.accepted.select(key).is_unique().all()
    for row in checked.rejected.iter_rows(named=True):
        assert rejects.message(row).startswith(f"{table} row {row['row_no']}: ")
        json.loads(row["row_json"])
