"""Each preset gives canonical rows of its tables, the same from csv as from parquet."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from recsys.config import DataSettings
from recsys.data import ingest, input_files

NOW = 1_700_000_000
SETTINGS = DataSettings(max_bad_fraction=1)


def _ingest(folder: Path, preset: str) -> ingest.IngestResult:
    return ingest.ingest(input_files.read_inputs([folder], preset=preset).tables, settings=SETTINGS, now=NOW)


def _save(folder: Path, kind: str, **tables: pl.DataFrame) -> Path:
    folder.mkdir(parents=True)
    for name, frame in tables.items():
        if kind == "csv":
            frame.write_csv(folder / f"{name}.csv")
        else:
            frame.write_parquet(folder / f"{name}.parquet")
    return folder


def _hm(folder: Path, kind: str) -> Path:
    return _save(
        folder,
        kind,
        articles=pl.DataFrame(
            {
                "article_id": ["0108775015", "0108775044"],
                "product_code": [108775, 108775],
                "prod_name": ["Strap top", "Strap top"],
                "product_type_no": [253, 253],
                "product_type_name": ["Vest top", "Vest top"],
                "colour_group_name": ["Black", None],
                "detail_desc": ["Jersey top, narrow straps.", None],
            }
        ),
        transactions_train=pl.DataFrame(
            {
                "t_dat": [date(2020, 9, 16)] * 3,
                "customer_id": ["00ab", "00ab", "00cd"],
                "article_id": ["0108775015", "0108775015", "0999999999"],
                "price": [0.25, 0.25, 0.5],
                "sales_channel_id": [2, 2, 1],
            }
        ),
        customers=pl.DataFrame(
            {"customer_id": ["00ab", "00ef"], "age": [21.0, None], "club_member_status": ["ACTIVE"] * 2}
        ),
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_hm(tmp_path: Path, kind: str) -> None:
    found = _ingest(_hm(tmp_path / "hm", kind), "hm")
    products = found.accepted["products"]
    assert products["product_id"].to_list() == ["0108775015", "0108775044"]
    assert products["group_id"].to_list() == ["108775"] * 2
    assert products["category"].to_list() == ["Vest top"] * 2
    assert products["description"].to_list() == ["Jersey top, narrow straps.", None]
    assert products["attributes"].to_list() == ['{"colour_group":"Black"}', None]
    assert products["price"].null_count() == 2
    events = found.accepted["events"]
    assert events.select("user_id", "occurred_at", "value", "line_no").rows() == [
        ("00ab", 1_600_214_400, 0.25, 0),
        ("00ab", 1_600_214_400, 0.25, 1),
    ]
    assert found.rejected["code"].to_list() == ["unknown_product"]
    assert found.accepted["users"]["attributes"].to_list() == [
        '{"age":21.0,"club_member_status":"ACTIVE"}',
        '{"club_member_status":"ACTIVE"}',
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_personalize(tmp_path: Path, kind: str) -> None:
    folder = _save(
        tmp_path / "p",
        kind,
        interactions=pl.DataFrame(
            {
                "USER_ID": ["u1", "u2"],
                "ITEM_ID": ["01", "02"],
                "TIMESTAMP": [NOW - 50, NOW - 5],
                "EVENT_TYPE": ["Click", "Purchase"],
            }
        ),
        items=pl.DataFrame(
            {
                "ITEM_ID": ["01", "02"],
                "PRICE": [9.5, None],
                "CATEGORY_L1": ["shoes", "bags"],
                "CATEGORY_L2": ["boots|winter", None],
                "PRODUCT_DESCRIPTION": ["Warm boots", None],
                "CREATION_TIMESTAMP": [NOW - 10_000, NOW - 10_000],
            }
        ),
        users=pl.DataFrame({"USER_ID": ["u1"], "GENDER": ["f"]}),
    )
    found = _ingest(folder, "personalize")
    assert found.accepted["products"].select("product_id", "category", "price", "attributes", "created_at").rows() == [
        ("01", "shoes", 9.5, '{"category_l2":["boots","winter"]}', NOW - 10_000),
        ("02", "bags", None, None, NOW - 10_000),
    ]
    assert found.accepted["events"].select("user_id", "event_type", "occurred_at").rows() == [
        ("u1", "view", NOW - 50),
        ("u2", "purchase", NOW - 5),
    ]
    assert found.accepted["users"].rows() == [("u1", '{"gender":"f"}')]


RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850.0,United Kingdom
C536379,85123A,WHITE HANGING HEART,-2,12/1/2010 9:41,2.95,17850,United Kingdom
536370,85123A,white heart ,1,12/1/2010 8:45,3.00,12583,France
536370,POST,POSTAGE,3,12/1/2010 8:45,18.00,12583,France
536371,21730,GLASS STAR,2,12/1/2010 9:00,4.25,,France
536371,21730,damaged,-9,12/1/2010 9:00,0,12583,France
536372,21730,GLASS STAR,many,12/1/2010 9:00,4.25,12583,France
536372,broken
"""


def test_online_retail(tmp_path: Path) -> None:
    (tmp_path / "retail").mkdir()
    (tmp_path / "retail" / "x.csv").write_text(RETAIL)
    found = _ingest(tmp_path / "retail", "online-retail")
    assert found.accepted["products"].select("product_id", "title", "price").rows() == [
        ("85123A", "WHITE HANGING HEART", pytest.approx(2.775)),
        ("21730", "GLASS STAR", 4.25),
    ]
    assert found.accepted["events"].select("user_id", "product_id", "event_type", "quantity", "order_id").rows() == [
        ("17850", "85123A", "purchase", 6.0, "536365"),
        ("17850", "85123A", "return", 2.0, "C536379"),
        ("12583", "85123A", "purchase", 1.0, "536370"),
    ]
    assert found.accepted["events"]["occurred_at"].to_list()[0] == 1_291_191_960
    assert found.accepted["users"].rows() == [
        ("17850", '{"country":"United Kingdom"}'),
        ("12583", '{"country":"France"}'),
    ]
    counts = found.counts["events"]
    assert counts["filtered_by"] == {"no_customer": 1, "not_a_product": 1, "stock_correction": 1}
    assert counts["rejected_by"] == {"bad_number": 1, "bad_row": 1}
    assert found.rejected.filter(pl.col("code") == "bad_row")["row_no"].to_list() == [9]
    assert counts["rows_in"] == 8 == counts["used"] + counts["rejected"] + counts["filtered"]
