"""Files, folders, databases and frames give the same parts; a call that is off is told how to mend it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recsys.data import input_files, presets
from recsys.data import input_sources as sources
from recsys.errors import UsageError

PRODUCTS = "product_id,title,colour\n1,One,red\n2,Two,\n"
EVENTS = "user_id,product_id,occurred_at\nu,1,2023-01-01\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "products.csv").write_text(PRODUCTS)
    (folder / "events.csv").write_text(EVENTS)
    (folder / "notes.md").write_text("not a table")
    (folder / "images").mkdir()
    return folder


def test_a_folder_is_sorted_into_tables(shop: Path) -> None:
    parts = input_files.read_inputs([shop]).tables
    assert [(part.table, part.source) for part in parts] == [
        ("products", "shop/products.csv"),
        ("events", "shop/events.csv"),
    ]
    assert parts[0].frame()["attributes"].to_list() == ['{"colour":"red"}', None]
    assert input_files.find_image_archives([shop]) == [shop / "images"]


def test_other_names_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "artikel.csv"
    path.write_text("sku;name;farbe\n1;One;rot\n")
    (part,) = input_files.read_inputs(
        [path], mapping={"product_id": "sku", "title": "name", "attributes.colour": "farbe"}
    ).tables
    frame = part.frame()
    assert frame.select("product_id", "title", "attributes").rows() == [("1", "One", '{"colour":"rot"}')]


def test_a_table_that_cannot_be_told_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user_id,product_id\nu,1\n")
    with pytest.raises(UsageError, match="as events it lacks occurred_at"):
        input_files.read_inputs([path])
    (part,) = input_files.read_inputs([path], table="users").tables
    assert part.table == "users"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("196\t242\t3\t881250949\n", {}, "the first line looks like data: put a line with the column names above it"),
        (EVENTS, {"preset": "hm"}, "does not fit preset 'hm': .* lacks t_dat.*give --preset csv"),
        ("t_dat,customer_id,article_id\n", {}, "these look like the columns of preset 'hm': give --preset hm"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n", {}, "give --preset personalize"),
        ("InvoiceNo,StockCode,Quantity,InvoiceDate,CustomerID\n", {}, "give --preset online-retail"),
        (
            "a,b\n1,2\n",
            {},
            "lacks product_id; it has a, b; name the columns with --map product_id=COLUMN",
        ),
        (PRODUCTS, {"preset": "hmm"}, "no preset 'hmm'; did you mean 'hm'"),
        (PRODUCTS, {"mapping": {"titel": "x"}}, "no canonical column 'titel'; did you mean 'title'"),
        (PRODUCTS, {"mapping": {"title": "nam"}}, "--map names column 'nam', which no file has"),
        (PRODUCTS, {"mapping": {"title": "x"}, "preset": "hm"}, "--map goes with canonical columns"),
        (PRODUCTS, {"table": "product"}, "no table 'product'; did you mean 'products'"),
        (PRODUCTS, {"table": "events"}, "as events it lacks user_id, occurred_at"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(tmp_path: Path, text: str, options: dict[str, object], words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        input_files.read_inputs([path], **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        input_files.read_inputs([tmp_path / "products.csv"])
    with pytest.raises(UsageError, match="holds no table"):
        input_files.read_inputs([tmp_path])


def test_the_same_rows_from_every_kind_of_frame() -> None:
    rows = {"product_id": ["1", "2"], "price": [1.0, None]}
    frames = [pl.DataFrame(rows), pl.DataFrame(rows).lazy(), pd.DataFrame(rows), pa.table(rows), rows]
    for frame in frames:
        (part,) = sources.inputs_from_frames({"products": frame})
        assert part.frame()["product_id"].to_list() == ["1", "2"]
        assert part.frame()["price"].to_list()[0] == 1.0
    with pytest.raises(UsageError, match="cannot be read as a frame"):
        sources.to_polars(object())
    with pytest.raises(UsageError, match="no table 'product'; did you mean 'products'"):
        sources.inputs_from_frames({"product": rows})
    with pytest.raises(UsageError, match="events: the frame has no column user_id"):
        sources.inputs_from_frames({"events": rows})


def test_every_preset_is_found_by_its_name() -> None:
    for name in presets.NAMES:
        assert presets.get_preset(name).name in {name, "csv"}
    assert presets.get_preset("online_retail").name == "online-retail"
