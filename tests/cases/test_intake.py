"""Inputs as shops and tools write them: read right, or refused with one line, and never changed in silence.

In: small files of each shape. Out: exit code, messages, and the rows of the store.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.cli.app import main

PRODUCTS = "product_id,title,price\n" + "".join(f"p{n},Thing {n},{n}.5\n" for n in range(1, 21))
EVENTS = "user_id,product_id,occurred_at\n" + "".join(f"u{n},p{n},2024-05-{n:02d}\n" for n in range(1, 21))
Content = str | bytes


@dataclass
class Outcome:
    """Exit code, all output on one line, and the store after an ingest."""

    code: int
    output: str
    url: str

    def rows(self, table: str) -> dict[str, dict]:
        """Rows of products or users by id."""
        key = f"{table[:-1]}_id"
        return {row[key]: row for row in self._select(table)}

    def events(self) -> list[dict]:
        """Events in the order of user and time."""
        return sorted(self._select("events"), key=lambda row: (row["user_id"], str(row["occurred_at"]), row["line_no"]))

    def days(self) -> list[str]:
        """Days of the events."""
        return [str(row["occurred_at"])[:10] for row in self.events()]

    def attributes(self, product: str) -> dict:
        """Attributes of a product."""
        return json.loads(self.rows("products")[product]["attributes"] or "{}")

    def _select(self, table: str) -> list[dict]:
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]  # noqa: S608
        engine.dispose()
        return found


Ingest = Callable[..., Outcome]


@pytest.fixture
def ingest(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ingest:
    """Write files into a folder and run `recsys ingest` on it; a second call goes to the same store."""
    project = tmp_path / "project"
    assert main(["init", str(project), "-q"]) == 0
    capsys.readouterr()
    calls = iter(range(100))

    def run(files: dict[str, Content], *arguments: str, paths: tuple[str, ...] = (".",), settings: str = "") -> Outcome:
        folder = tmp_path / f"in{next(calls)}"
        folder.mkdir()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if settings:
            config = project / "recsys.toml"
            config.write_text(f"[data]\n{settings}\n")
        monkeypatch.chdir(folder)
        code = main(["ingest", "-C", str(project), *paths, *arguments])
        captured = capsys.readouterr()
        output = " ".join((captured.out + captured.err).split())
        assert "Traceback" not in output
        assert code != 70, output
        return Outcome(code, output, f"sqlite:///{project}/recsys.db")

    return run


def parquet(**columns: object) -> bytes:
    """A Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def zipped(**members: str) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_csv", ".csv"), content)
    return stream.getvalue()


# Tables: which file is what, and what an update keeps


def test_a_file_with_some_columns_keeps_the_stored_values_of_the_others(ingest: Ingest) -> None:
    full = "product_id,title,description,price,colour,size\np1,Cup,A cup,1.5,red,3\np2,Pot,A pot,2.5,blue,4\n"
    assert ingest({"products.csv": full, "stock.csv": "product_id,available\np1,0\np2,1\n"}).code == 0
    outcome = ingest({"prices.csv": "product_id,price,colour\np1,9.5,green\np3,1,\n"})
    first = outcome.rows("products")["p1"]
    assert (first["title"], first["description"], first["price"], bool(first["available"])) == (
        "Cup",
        "A cup",
        9.5,
        False,
    )
    assert outcome.attributes("p1") == {"colour": "green", "size": 3}
    assert outcome.rows("products")["p2"]["title"] == "Pot"
    assert outcome.rows("products")["p3"]["title"] is None
    outcome = ingest({"products.csv": "product_id,title,description\np1,Cup,\n"})
    assert outcome.rows("products")["p1"]["description"] is None  # an empty cell of a column is a value
    assert outcome.rows("products")["p1"]["price"] == 9.5


def test_an_update_changes_the_content_hash_only_with_the_content(ingest: Ingest) -> None:
    before = ingest({"products.csv": PRODUCTS}).rows("products")
    same = ingest({"stock.csv": "product_id,available\n" + "".join(f"p{n},1\n" for n in range(1, 21))}).rows("products")
    assert {key: row["content_hash"] for key, row in same.items()} == {
        key: row["content_hash"] for key, row in before.items()
    }
    other = ingest({"prices.csv": "product_id,price\np1,99\n"}).rows("products")
    assert other["p1"]["content_hash"] != before["p1"]["content_hash"]
    assert other["p2"]["content_hash"] == before["p2"]["content_hash"]


def test_users_keep_their_attributes(ingest: Ingest) -> None:
    ingest({"products.csv": PRODUCTS, "users.csv": "user_id,city,age\nu1,Bonn,30\n"})
    outcome = ingest({"users.csv": "user_id,city\nu1,Berlin\n"})
    assert json.loads(outcome.rows("users")["u1"]["attributes"]) == {"age": 30, "city": "Berlin"}


def test_events_keep_quantity_and_value(ingest: Ingest) -> None:
    header = "user_id,product_id,occurred_at,order_id"
    ingest({"products.csv": PRODUCTS, "events.csv": f"{header},quantity,value\nu1,p1,2024-05-01,o1,3,9.5\n"})
    outcome = ingest({"events.csv": f"{header},value\nu1,p1,2024-05-01,o1,8\nu1,p2,2024-05-02,o2,1\n"})
    assert [(row["quantity"], row["value"]) for row in outcome.events()] == [(3.0, 8.0), (1.0, 1.0)]


def test_replace_makes_the_store_equal_to_the_source(ingest: Ingest) -> None:
    ingest({"products.csv": PRODUCTS, "events.csv": EVENTS})
    outcome = ingest(
        {
            "products.csv": "product_id,title\np1,Thing 1\n",
            "events.csv": "user_id,product_id,occurred_at\nu1,p2,2024-06-01\n",
        },
        "--replace", "events", "--replace", "products",
    )  # fmt: skip
    assert outcome.code == 0
    assert [row["product_id"] for row in outcome.events()] == ["p2"]
    sold = {key for key, row in outcome.rows("products").items() if row["available"]}
    assert sold == {"p1"}
    assert outcome.rows("products")["p1"]["price"] is None  # what the source lacks is empty
    assert "19 products left the catalogue" in outcome.output
    assert "20 stored events were replaced" in outcome.output
    assert ingest({"products.csv": PRODUCTS}, "--replace", "users").code == 2


def test_a_catalogue_that_lacks_stored_products_says_how_many(ingest: Ingest) -> None:
    ingest({"products.csv": PRODUCTS})
    outcome = ingest({"products.csv": "".join(PRODUCTS.splitlines(keepends=True)[:18])})
    assert "3 products of the store are not among the 17 ingested ones" in outcome.output
    assert "--replace products" in outcome.output
    assert "--replace" not in ingest({"products.csv": "product_id,title\np1,Thing 1\n"}).output


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"transactions.csv": "customer_id,product_id,occurred_at,quantity\nu1,p1,2024-05-01,1\n"},
         "as events it lacks user_id; it has customer_id, product_id, occurred_at, quantity; name the columns with "
         "--map user_id=customer_id"),
        ({"events.csv": "customer_id,product_id,occurred_at\nu1,p1,2024-05-01\n"}, "as events it lacks user_id"),
        ({"products2.csv": "Customer ID,Product ID,Time\nu1,p1,2024-05-01\n"},
         "--map user_id=Customer ID --map product_id=Product ID --map occurred_at=Time"),
        ({"interactions.csv": "user_id,item_id,weight,datetime\n1,2,3,2021-05-01\n"},
         "--map product_id=item_id --map occurred_at=datetime"),
        ({"reviews.jsonl": '{"user_id": "A", "parent_asin": "B", "timestamp": 1588687728924, "text": "ok"}\n'},
         "as events it lacks product_id, occurred_at"),
        ({"ratings.csv": "user_id,product_id,rating\nu1,p1,5\n"}, "as events it lacks occurred_at"),
        ({"customers.csv": "customer_id,city\nu1,Bonn\n"}, "as users it lacks user_id"),
        ({"articles.csv": "sku,name\np1,Cup\n"}, "as products it lacks product_id"),
    ],
)  # fmt: skip
def test_a_log_is_never_taken_for_products_or_users(ingest: Ingest, files: dict[str, Content], words: str) -> None:
    ingest({"products.csv": PRODUCTS})
    outcome = ingest({"products.csv": PRODUCTS, **files})
    assert outcome.code == 2
    assert words in outcome.output
    assert outcome.rows("products")["p1"]["title"] == "Thing 1"
    assert outcome.rows("users") == {}


def test_every_file_that_is_not_read_is_named_with_its_reason(ingest: Ingest) -> None:
    outcome = ingest(
        {
            "products.csv": PRODUCTS, "notes.md": "x", "shops.csv": "shop,city\n1,Bonn\n", "photos/p1.jpg": b"x",
            "more/deep.pdf": b"x", ".hidden": "x", "empty.csv": "",
        }
    )  # fmt: skip
    assert outcome.code == 0
    for words in (
        "2 files were not read, of a kind that is not read: notes.md, more/deep.pdf",
        "1 file was not read, an image outside of images/; give its folder with --images: photos/p1.jpg",
        "no table of the preset 'csv': shops.csv",
        "empty or not readable: empty.csv",
    ):
        assert words in outcome.output
    assert ".hidden" not in outcome.output


def test_a_file_in_a_subfolder_that_only_has_product_ids_is_named_and_not_read(ingest: Ingest) -> None:
    outcome = ingest({"products.csv": PRODUCTS, "truth/bundles.csv": "bundle,product_id\n1,p1\n2,p1\n"})
    assert outcome.code == 0
    assert "in a subfolder and without a name or title" in outcome.output
    assert outcome.attributes("p1") == {}


def test_folders_of_spark_are_read(ingest: Ingest) -> None:
    event = "user_id,product_id,occurred_at\n{u},{p},2024-05-01\n"
    outcome = ingest(
        {
            "products/part-00000.csv": PRODUCTS, "products/_SUCCESS": "",
            "events/event_type=view/part-0.csv": event.format(u="u1", p="p1"),
            "events/event_type=purchase/part-0.csv": event.format(u="u2", p="p2"),
            "events/part-0.csv.gz": gzip.compress(event.format(u="u3", p="p3").encode()),
        },
        settings="max_bad_fraction = 1.0",
    )  # fmt: skip
    assert outcome.code == 0
    assert [(row["user_id"], row["event_type"]) for row in outcome.events()] == [
        ("u1", "view"),
        ("u2", "purchase"),
        ("u3", "purchase"),
    ]


def test_files_of_one_name_keep_their_own_rejected_rows(ingest: Ingest) -> None:
    bad = "user_id,product_id,occurred_at\nu1,nothing,2024-05-01\nu1,p1,2024-05-01\n"
    files = {"products.csv": PRODUCTS, "a/x/events.csv": bad, "b/x/events.csv": bad}
    outcome = ingest(files, settings="max_bad_fraction = 1.0")
    engine = sa.create_engine(outcome.url)
    with engine.connect() as connection:
        sources = sorted(connection.execute(sa.text("SELECT source FROM rejected_rows")).scalars())
    engine.dispose()
    assert [source[-12:] for source in sources] == ["x/events.csv"] * 2
    assert len(set(sources)) == 2


def test_a_shop_that_has_events_only_gets_its_catalogue_from_them(ingest: Ingest) -> None:
    outcome = ingest({"events.csv": EVENTS})
    assert outcome.code == 0
    assert len(outcome.rows("products")) == 20
    assert "there is no catalogue, so it is made of the product ids" in outcome.output


def test_columns_are_mapped_all_at_once(ingest: Ingest) -> None:
    table = "sku,name,title,description\np1,One,T1,long\n"
    arguments = ("--map", "product_id=sku", "--map", "title=name", "--map", "description=title")
    row = ingest({"products.csv": table}, *arguments).rows("products")["p1"]
    assert (row["title"], row["description"]) == ("One", "T1")
    row = ingest({"products.csv": table}, "--map", "product_id=sku", "--map", "title=sku").rows("products")["p1"]
    assert row["title"] == "p1"


# Values


@pytest.mark.parametrize("word", ["NULL", "nan", "None", "\\N", "<NA>", "N/A", "undefined", "(null)", "#N/A", "NA"])
def test_words_for_nothing_are_nothing(ingest: Ingest, word: str) -> None:
    header = "product_id,title,brand,price,available,created_at,colour\n"
    row = f"p90,{word},{word},{word},{word},{word},{word}\n"
    log = f"{EVENTS.splitlines()[0]}\n{word},p90,2024-05-01\nu1,p90,2024-05-01\n"
    outcome = ingest({"products.csv": header + row, "events.csv": log}, settings="max_bad_fraction = 1.0")
    product = outcome.rows("products")["p90"]
    assert [product[name] for name in ("title", "brand", "price", "available", "created_at")] == [None] * 5
    assert outcome.attributes("p90") == {}
    assert [row["user_id"] for row in outcome.events()] == ["u1"]
    assert "missing_id" in outcome.output
    assert "hold NULL, nan, N/A" in outcome.output


@pytest.mark.parametrize(
    ("cell", "price", "currency"),
    [
        ("$12.99", 12.99, None), ("12.99 USD", 12.99, "USD"), ("USD 12.99", 12.99, "USD"), ("€12", 12.0, "EUR"),
        ("12.99€", 12.99, "EUR"), ('"1,001.50"', 1001.5, None), ("1 001.50", 1001.5, None), ("1'001.50", 1001.5, None),
        ("n/a", None, None), ("Free", None, None), ('"6,95"', None, None), ("1e39", None, None), ("9e37", 9e37, None),
    ],
)  # fmt: skip
def test_prices_as_shops_write_them(ingest: Ingest, cell: str, price: float | None, currency: str | None) -> None:
    row = ingest({"products.csv": f"product_id,price\np1,{cell}\n"}).rows("products")["p1"]
    assert (row["price"], row["currency"]) == (price, currency)


def test_a_decimal_comma_is_a_setting(ingest: Ingest) -> None:
    row = ingest({"products.csv": 'product_id;price\np1;"1.234,50"\n'}, settings='decimal = ","').rows("products")["p1"]
    assert row["price"] == 1234.5


def test_availability_as_shops_write_it(ingest: Ingest) -> None:
    yes = (
        "in stock", "InStock", "https://schema.org/InStock", "onbackorder", "available for order", "active", "publish",
        "25", "1.0", "TRUE", "Y", "ja", "sí", "enabled", "LimitedAvailability", "in stock (3)", "有货", "preorder",
    )  # fmt: skip
    no = ("http://schema.org/OutOfStock", "discontinued", "draft", "archived", "0", "-3", "off", "sold_out", "nein")
    lines = [f"p{n},{word}" for n, word in enumerate((*yes, *no))]
    rows = ingest({"products.csv": "product_id,available\n" + "\n".join(lines) + "\n"}).rows("products")
    assert [bool(rows[f"p{n}"]["available"]) for n in range(len(lines))] == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        ([20240501, 20240502], ["2024-05-01", "2024-05-02"]),
        ([45413.5, 45414.0], ["2024-05-01", "2024-05-02"]),
        ([1714557600, 1714644000], ["2024-05-01", "2024-05-02"]),
        ([1714557600000, 1714644000000], ["2024-05-01", "2024-05-02"]),
        ([1714557600, 0], ["2024-05-01"]),
        ([date(2024, 5, 1), date(2024, 5, 2)], ["2024-05-01", "2024-05-02"]),
        ([datetime(2024, 5, 1, 23, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC)], ["2024-05-01", "2024-05-02"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_times_are_told_by_magnitude_in_every_format(ingest: Ingest, cells: list, days: list[str], form: str) -> None:
    frame = pl.DataFrame({"user_id": ["u1", "u2"], "product_id": ["p1", "p2"], "occurred_at": cells})
    stream = io.BytesIO()
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[form](stream)
    files = {"products.csv": PRODUCTS, f"events.{form}": stream.getvalue()}
    assert ingest(files, settings="max_bad_fraction = 1.0").days() == days


def test_times_of_other_zones_and_forms(ingest: Ingest) -> None:
    header = "user_id,product_id,occurred_at\n"
    settings = 'timezone = "America/New_York"\ndate_format = "%d/%m/%Y %H:%M"\nmax_bad_fraction = 1.0'
    cells = ["01/05/2024 10:00", "2024-05-01 10:00", "2024-05-01T10:00:00Z", "2024-05-01T10:00:00+99:99"]
    log = header + "".join(f"u{n},p1,{cell}\n" for n, cell in enumerate(cells))
    outcome = ingest({"products.csv": PRODUCTS, "events.csv": log}, settings=settings)
    assert [str(row["occurred_at"])[:16] for row in outcome.events()] == [
        "2024-05-01 14:00", "2024-05-01 14:00", "2024-05-01 10:00",
    ]  # fmt: skip
    assert "bad_time 1" in outcome.output
    for wrong in (
        'timezone = "Mars/Base"',
        'date_format = "dd.mm"',
        'encoding = "utf-99"',
        'event_types = { a = "b" }',
    ):
        assert ingest({"products.csv": PRODUCTS}, settings=wrong).code == 2


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_attributes_keep_their_types_in_every_format(ingest: Ingest, form: str) -> None:
    frame = pl.DataFrame(
        {"product_id": ["p1", "p2"], "weight": [1.5, 3.0], "year": [2001, 2002], "organic": [True, False]}
    )
    stream = io.BytesIO()
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[form](stream)
    outcome = ingest({f"products.{form}": stream.getvalue()})
    assert outcome.attributes("p1") == {"organic": True, "weight": 1.5, "year": 2001}


def test_lists_stay_lists_and_codes_stay_codes(ingest: Ingest) -> None:
    table = 'product_id,tags,code,mixed\np1,"[""a"",""b""]",007,1\np2,"[""c""]",012,x\n'
    outcome = ingest({"products.csv": table})
    assert outcome.attributes("p1") == {"code": "007", "mixed": "1", "tags": ["a", "b"]}
    table = pl.DataFrame({"product_id": ["p1"], "tags": [["a", "b"]], "since": [date(2024, 5, 1)], "size": ["42"]})
    stream = io.BytesIO()
    table.write_parquet(stream)
    assert ingest({"products.parquet": stream.getvalue()}, "--replace", "products").attributes("p1") == {
        "since": "2024-05-01", "size": "42", "tags": ["a", "b"],
    }  # fmt: skip


def test_one_id_is_one_text_in_every_format(ingest: Ingest) -> None:
    users = "user_id,city\n7001,X\n7002,Y\n"
    for name, content in {
        "events.csv": "user_id,product_id,occurred_at\n7001.0,p1,2024-05-01\n7002.0,p2,2024-05-01\n",
        "events.parquet": parquet(
            user_id=pa.array([Decimal("7001.00"), Decimal("7002.00")]),
            product_id=["p1", "p2"],
            occurred_at=["2024-05-01"] * 2,
        ),
        "events.jsonl": '{"user_id": 7001.0, "product_id": "p1", "occurred_at": "2024-05-01"}\n'
        '{"user_id": 7002.0, "product_id": "p2", "occurred_at": "2024-05-01"}\n',
    }.items():  # fmt: skip
        outcome = ingest({"products.csv": PRODUCTS, "users.csv": users, name: content}, "--replace", "events")
        assert [row["user_id"] for row in outcome.events()] == ["7001", "7002"], name


def test_uuids_of_16_bytes_are_read_as_such(ingest: Ingest) -> None:
    ids = [UUID(int=5).bytes, UUID(int=2**127 + 1).bytes]
    events = parquet(user_id=pa.array(ids, pa.binary(16)), product_id=["p1", "p2"], occurred_at=["2024-05-01"] * 2)
    outcome = ingest({"products.csv": PRODUCTS, "events.parquet": events})
    assert [row["user_id"] for row in outcome.events()] == [str(UUID(int=5)), str(UUID(int=2**127 + 1))]


def test_ids_that_nearly_agree_and_ids_that_excel_has_ruined_are_named(ingest: Ingest) -> None:
    products = "product_id,title\np1 ,A\n4.00638E+12,B\n"
    log = "user_id,product_id,occurred_at\nAnna,p1 ,2024-05-01\nanna,p1 ,2024-05-01\n"
    log += "x,p1,2024-05-01\nGuest,p1 ,2024-05-02\n"
    outcome = ingest({"products.csv": products, "events.csv": log}, settings="max_bad_fraction = 1.0")
    for words in (
        "1 unknown product ids are in the catalogue but for case, spaces or accents (e.g. 'p1' and 'p1 ')",
        "1 groups of user ids differ only in case",
        "1 ids of product_id look like 4.00638E+12",
        "user_id 'Guest' has 1 rows and may stand for many people",
    ):
        assert words in outcome.output


def test_markup_is_no_text_of_a_product(ingest: Ingest) -> None:
    table = (
        'product_id,title,description\np0,"Caf&eacute; &amp; Co &#8211; mug",'
        '"<p style=""color:red"">Red<br>mug</p><script>var x=1</script>"\np1,5 < 6 AT&T,<b>bo</b>ld\n'
    )
    outcome = ingest({"products.csv": table})
    rows = outcome.rows("products")
    assert (rows["p0"]["title"], rows["p0"]["description"]) == ("Café & Co – mug", "Red mug")
    assert (rows["p1"]["title"], rows["p1"]["description"]) == ("5 < 6 AT&T", "bold")
    assert "HTML was removed from 2 cells of description" in outcome.output


def test_attributes_without_content_and_too_deep_ones(ingest: Ingest) -> None:
    deep = json.dumps('{"a":' * 600 + "1" + "}" * 600)
    rows = [
        "null",
        "[]",
        '"{""a"": NaN}"',
        '"[{""name"":""c"",""value"":""r""}]"',
        '"' + json.loads(deep).replace('"', '""') + '"',
    ]
    table = "product_id,title,attributes\n" + "".join(f"p{n},T,{cell}\n" for n, cell in enumerate(rows))
    outcome = ingest({"products.csv": table})
    assert outcome.code == 0
    assert [outcome.attributes(f"p{n}") for n in range(5)] == [{}, {}, {}, {"c": "r"}, {}]
    assert "bad_json 1" in outcome.output


def test_a_very_long_text_is_shortened_and_said_so(ingest: Ingest) -> None:
    image = "A" * 150_000
    table = (
        f"product_id,title,description\np1,T,\"<img src='data:image/png;base64,{image}'>Cup\"\np2,T,{'x ' * 60_000}\n"
    )
    outcome = ingest({"products.csv": table})
    rows = outcome.rows("products")
    assert rows["p1"]["description"] == "Cup"
    assert len(rows["p2"]["description"]) == 100_000
    assert "longer than 100,000 characters and were shortened" in outcome.output


def test_returns_may_have_their_amount_below_zero(ingest: Ingest) -> None:
    log = (
        "user_id,product_id,occurred_at,event_type,quantity\nu1,p1,2024-05-01,purchase,3\nu1,p1,2024-05-02,refund,-2\n"
    )
    events = ingest({"products.csv": PRODUCTS, "events.csv": log}).events()
    assert [(row["event_type"], row["quantity"]) for row in events] == [("purchase", 3.0), ("return", 2.0)]


def test_event_types_of_other_systems(ingest: Ingest) -> None:
    types = {
        "Purchase": "purchase", " purchase ": "purchase", "Order Completed": "purchase", "view_item": "view",
        "Product Viewed": "view", "AddToCart": "add_to_cart", "Product Added": "add_to_cart", "like": "wishlist",
        "pv": "view", "refund": "return", "rating": "rating", "share": "share",
    }  # fmt: skip
    lines = [f"u{n:02d},p1,2024-05-01,{name}" for n, name in enumerate([*types, "search", "session_start"])]
    log = "user_id,product_id,occurred_at,event_type\n" + "\n".join(lines) + "\n"
    outcome = ingest({"products.csv": PRODUCTS, "events.csv": log})
    assert outcome.code == 0
    assert [row["event_type"] for row in outcome.events()] == list(types.values())
    assert "2 rows of unknown event types were left out: 'search' 1, 'session_start' 1" in outcome.output


def test_rows_that_an_export_repeats_are_named(ingest: Ingest) -> None:
    log = EVENTS.splitlines()
    outcome = ingest({"products.csv": PRODUCTS, "events.csv": "\n".join([log[0], *log[1:] * 3]) + "\n"})
    assert "40 of 60 rows of in0/events.csv equal an earlier row" in outcome.output


# Files


TEXT = "product_id;title;brand\n" + "".join(f"p{n};Crème brûlée {n};Müller\n" for n in range(1, 21))
CHINESE = "product_id,title\n" + "".join(f"p{n},红色连衣裙夏季新款 {n}\n" for n in range(1, 21))


@pytest.mark.parametrize(
    ("content", "settings", "title"),
    [
        (TEXT.encode("cp1252"), "", "Crème brûlée 1"),
        (TEXT.encode("cp1252"), 'encoding = "cp1252"', "Crème brûlée 1"),
        (CHINESE.encode("gbk"), 'encoding = "gbk"', "红色连衣裙夏季新款 1"),
        (CHINESE.encode("gbk"), "", "红色连衣裙夏季新款 1"),
        (TEXT.encode("utf-16"), "", "Crème brûlée 1"),
        (TEXT.encode("utf-16-le"), "", "Crème brûlée 1"),
        (TEXT.encode("utf-8-sig"), "", "Crème brûlée 1"),
        (b"\xef\xbb\xbf" + TEXT.encode("utf-8-sig"), "", "Crème brûlée 1"),
    ],
)
def test_encodings(ingest: Ingest, content: bytes, settings: str, title: str) -> None:
    outcome = ingest({"products.csv": content}, settings=settings)
    assert outcome.code == 0
    assert outcome.rows("products")["p1"]["title"] == title
    is_guess = not settings and not content.startswith((b"\xff\xfe", b"\xef\xbb\xbf"))
    assert ("which was guessed" in outcome.output) == is_guess


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\nproduct_id;title\np1;Thing 1\n",
        "\n\n  \nproduct_id,title\np1,Thing 1\n",
        'product_id,title,"colour\n(main)"\np1,Thing 1,red\n',
        ",product_id,title\n0,p1,Thing 1\n",
        "product_id,title,,\np1,Thing 1,,\n",
        "product_id,title\np1,Thing 1,,\n",
        "product_id,title\np1,Thing 1\n,\n,\n",
        '"product_id","title"\n"p1","Thing 1"\n',
        "product_id|title\np1|Thing 1\n",
    ],
)
def test_tables_as_excel_and_pandas_write_them(ingest: Ingest, table: str) -> None:
    outcome = ingest({"products.csv": table})
    assert outcome.code == 0
    assert {key: row["title"] for key, row in outcome.rows("products").items()} == {"p1": "Thing 1"}
    assert set(outcome.attributes("p1")) <= {"colour (main)"}


def test_backslashes_as_escapes(ingest: Ingest) -> None:
    table = '"product_id";"title"\n"p1";"Plain"\n"p2";"The \\"Bridge\\" 2"\n"p3";"C:\\dir"\n'
    rows = ingest({"products.csv": table}).rows("products")
    assert [rows[key]["title"] for key in ("p1", "p2", "p3")] == ["Plain", 'The "Bridge" 2', "C:\\dir"]


@pytest.mark.parametrize(
    "content",
    [
        '[{"product_id": 1, "title": "T", "tags": ["a"]}, {"product_id": 2, "title": "U", "tags": ["b"]}]',
        '[\n  {"product_id": 1, "title": "T", "tags": ["a"]},\n  {"product_id": 2, "title": "U", "tags": ["b"]}\n]\n',
        '{"product_id": 1, "title": "T", "tags": ["a"]}\n\n{"product_id": 2, "title": "U", "tags": ["b"]}\n',
        '{\n "products": [{"product_id": 1, "title": "T", "tags": ["a"]}, {"product_id": 2, "title": "U"}]\n}',
    ],
)
def test_json_in_lines_and_arrays(ingest: Ingest, content: str) -> None:
    outcome = ingest({"products.json": content})
    assert {key: row["title"] for key, row in outcome.rows("products").items()} == {"1": "T", "2": "U"}
    assert outcome.attributes("1") == {"tags": ["a"]}


def test_compressed_files_and_zips(ingest: Ingest) -> None:
    compressed = {
        "a.csv.gz": gzip.compress, "b.csv.bz2": bz2.compress, "c.csv.xz": lzma.compress,
        "d.csv.zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    }  # fmt: skip
    for name, compress in compressed.items():
        assert len(ingest({f"products_{name}": compress(PRODUCTS.encode())}).rows("products")) == 20
    outcome = ingest(
        {"export.zip": zipped(export__products_csv=PRODUCTS, export__events_csv=EVENTS)}, paths=("export.zip",)
    )
    assert len(outcome.events()) == 20
    assert ingest({"nothing.zip": zipped(readme="x")}, paths=("nothing.zip",)).code == 2
    for name in ("broken.csv.gz", "broken.csv.zst", "broken.zip", "broken.csv.xz", "broken.csv.bz2"):
        assert ingest({name: b"no archive"}, paths=(name,)).code == 2


def test_a_workbook(ingest: Ingest, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ("product_id", "title", "price", "created_at"),
        (101, "Cup", 1.5, datetime(2024, 5, 1)),
        (102, "Pot", 2, None),
    ):  # noqa: DTZ001
        book.active.append(row)
    book.create_sheet("other").append(("x",))
    book.save(tmp_path / "products.xlsx")
    outcome = ingest({"products.xlsx": (tmp_path / "products.xlsx").read_bytes()})
    rows = outcome.rows("products")
    assert (rows["101"]["title"], rows["101"]["price"], str(rows["101"]["created_at"])[:10]) == (
        "Cup",
        1.5,
        "2024-05-01",
    )
    assert "further sheets: other" in outcome.output


def test_parquet_of_every_type(ingest: Ingest) -> None:
    content = parquet(
        product_id=pa.array(["p1"]), price=pa.array([Decimal("1.50")], pa.decimal256(50, 2)),
        duration=pa.array([5], pa.duration("s")), blob=pa.array([b"abc"]), nested=pa.array([{"a": [1, 2]}]),
        half=pa.array([1.5]).cast(pa.float16()), kind=pa.array(["x"]).dictionary_encode(),
        pairs=pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), nothing=pa.array([None]),
        at=pa.array([3], pa.time32("s")),
    )  # fmt: skip
    outcome = ingest({"products.parquet": content})
    assert outcome.code == 0
    assert outcome.rows("products")["p1"]["price"] == 1.5
    assert outcome.attributes("p1")["nested"] == {"a": [1, 2]}
    assert outcome.attributes("p1")["kind"] == "x"
    twice = pa.Table.from_arrays([pa.array(["p1"])] * 2, names=["product_id", "product_id"])
    stream = io.BytesIO()
    pq.write_table(twice, stream)
    outcome = ingest({"products.parquet": stream.getvalue()})
    assert outcome.code == 2
    assert "column 'product_id' stands twice" in outcome.output


def test_wide_headers_and_new_keys_in_each_line_take_linear_time(ingest: Ingest) -> None:
    wide = "product_id," + ",".join(f"c{n}" for n in range(20_000)) + "\np1" + ",1" * 20_000 + "\n"
    assert ingest({"products.csv": wide}).code == 0
    keys = "".join(f'{{"product_id": "p{n}", "k{n}": 1}}\n' for n in range(20_000))
    outcome = ingest({"products.jsonl": keys})
    assert outcome.code == 0
    assert "more than 2,000 different keys" in outcome.output


def test_an_events_file_without_rows(ingest: Ingest) -> None:
    outcome = ingest({"products.csv": PRODUCTS, "events.csv": "user_id,product_id,occurred_at\n"})
    assert outcome.code == 0
    assert "holds no rows" in outcome.output
    assert len(outcome.rows("products")) == 20


@pytest.mark.parametrize("decimal", [".", ","])
def test_online_retail_in_both_editions(ingest: Ingest, decimal: str) -> None:
    price = f'"6{decimal}95"'
    first = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    first += f"536,85041,LIGHT,12,12/2/2010 8:26,{price},13085,UK\n"
    second = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    second += f"489,85041,LIGHT,12,2009-12-01 07:45:00,{price},13085.0,UK\n"
    settings = f'decimal = "{decimal}"'
    for table in (first, second):
        outcome = ingest({"retail.csv": table}, "--preset", "online-retail", settings=settings)
        assert outcome.code == 0
        assert outcome.rows("products")["85041"]["price"] == 6.95
        (event, *_) = outcome.events()
        assert (event["user_id"], event["quantity"], event["value"]) == ("13085", 12.0, pytest.approx(83.4))
    if decimal == ",":
        outcome = ingest({"retail.csv": first}, "--preset", "online-retail", settings='decimal = "."')
        assert outcome.code == 3
        assert "bad_number" in outcome.output
