"""A corpus of about a thousand bad rows, files and images: each with its code, one line, and every row accounted for.

In: generated inputs, the same on every machine; RECSYS_FAULTS=large multiplies the mutated ones. Out: codes and counts.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from recsys.config import DataSettings, ImageSettings
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data.image_decoding import ImageError, decode_image
from recsys.data.ingest import ingest
from recsys.data.input_files import read_inputs
from recsys.data.validation import validate
from recsys.errors import DataContractError, RecsysError, UsageError

pytestmark = pytest.mark.faults

NOW = 1_700_000_000
LENIENT = DataSettings(max_bad_fraction=1.0)

# Rows: for each kind of column, bad cells and what becomes of the row. "used" = the cell is empty or harmless.

EMPTY = (
    "",
    " ",
    "\t",
    "NULL",
    "null",
    "nan",
    "NaN",
    "None",
    "N/A",
    "n/a",
    "\\N",
    "<NA>",
    "undefined",
    "#N/A",
    "(null)",
    "nil",
)
LONG = "x" * 100_001
TEXTS = {"a\x00b": "nul_in_text", "\x00": "nul_in_text"}
NOT_NUMBERS = (
    "abc", "1.2.3", "--1", "1e", "1e999", "1e39", "inf", "-inf", "0x10", "1_000", "½", "٣", "12,50", "1,23,4", "one",
)  # fmt: skip
NOT_TIMES = (
    "abc", "31.12.2022", "12/31/2022", "2022-13-01", "2022-02-30", "2022-01-01T25:00", "2022-01-01T10:61", "yesterday",
    "2022-01-01T10:00:00+99:99", "2022-01-01T10:00+15:00", "-5", "1e30", "2022", "20221301",
)  # fmt: skip
NOT_TRUTHS = ("perhaps", "2022-01-01", "yes and no", "!", "true false", "nope?")
NOT_JSON = (
    "{", "[1]", "5", '"x"', "{'a': 1}", '{"a": "\\ud800"}', "[" * 50_000, '{"a":' * 600 + "1" + "}" * 600, "nothing",
    "<a/>",
)  # fmt: skip
BAD_IDS = {"x" * 256: "too_long", "a\x00": "nul_in_text"}


def _event_cells() -> Iterator[tuple[str, object, str]]:
    for column in (schema.USER_ID, schema.PRODUCT_ID):
        yield from ((column, cell, "missing_id") for cell in EMPTY)
        yield from ((column, cell, code) for cell, code in BAD_IDS.items())
    yield (schema.USER_ID, schema.DEFAULT_USER, "reserved_id")
    yield from (
        (schema.PRODUCT_ID, cell, "unknown_product")
        for cell in ("q", "P", " p", "p ", "P1", "é", "'; DROP TABLE x", "../p")
    )
    yield from ((schema.OCCURRED_AT, cell, "missing_time") for cell in EMPTY)
    yield from ((schema.OCCURRED_AT, cell, "bad_time") for cell in NOT_TIMES)
    yield from ((schema.OCCURRED_AT, str(NOW + late), "future_time") for late in (86_401, 90_000, 10**9))
    for column in (schema.QUANTITY, schema.VALUE):
        yield from ((column, cell, "used") for cell in EMPTY)
        yield from ((column, cell, "bad_number") for cell in NOT_NUMBERS)
    yield (schema.QUANTITY, "-1", "negative_number")
    yield from ((schema.ORDER_ID, cell, code) for cell, code in {**TEXTS, "x" * 256: "too_long"}.items())
    types = (
        "search",
        "session_start",
        "impression",
        "1",
        "???",
        "x" * 300,
        "remove_from_cart",
        "purchase!x",
        "ß",
        "view_item_list",
    )
    yield from ((schema.EVENT_TYPE, cell, "unknown_event_type") for cell in types)
    yield from ((schema.EVENT_TYPE, cell, "used") for cell in (*EMPTY, "VIEW", " Click ", "Order-Completed"))


def _product_cells() -> Iterator[tuple[str, object, str]]:
    yield from ((schema.PRODUCT_ID, cell, "missing_id") for cell in EMPTY)
    yield from ((schema.PRODUCT_ID, cell, code) for cell, code in BAD_IDS.items())
    for column in (schema.TITLE, schema.DESCRIPTION, schema.BRAND, schema.CATEGORY, schema.CURRENCY, schema.GROUP_ID):
        yield from ((column, cell, "used") for cell in (*EMPTY, LONG))
        yield from ((column, cell, code) for cell, code in TEXTS.items())
    markup = (
        "<b>",
        "<script>x</script>",
        "&#0;",
        "&amp;lt;b&amp;gt;",
        "<" * 500,
        "<!--",
        "<![CDATA[x]]>",
        "&bogus;",
        "a<b>c",
        "</p>",
    )
    yield from ((schema.DESCRIPTION, cell, "used") for cell in markup)
    yield from ((schema.PRICE, cell, "used") for cell in (*EMPTY, "$1", "1 EUR", "Free", "-3", *NOT_NUMBERS))
    yield from ((schema.AVAILABLE, cell, "used") for cell in (*EMPTY, *NOT_TRUTHS))
    yield from ((schema.CREATED_AT, cell, "used") for cell in (*EMPTY, *NOT_TIMES))
    yield from ((schema.ATTRIBUTES, cell, "used") for cell in (*EMPTY, "{}", "[]", *NOT_JSON))
    yield from ((schema.ATTRIBUTES, cell, "nul_in_text") for cell in ('{"a": "\\u0000"}', "\x00"))


ROWS = [("events", *cell) for cell in _event_cells()] + [("products", *cell) for cell in _product_cells()]


def test_the_corpus_of_rows_is_large() -> None:
    assert len(ROWS) >= 430


@pytest.mark.parametrize("table", ["events", "products"])
def test_every_bad_cell_has_its_outcome(table: str) -> None:
    cases = [case for case in ROWS if case[0] == table]
    rows = []
    for number, (_, column, cell, _) in enumerate(cases):
        row = {name: None for name in (entry.name for entry in schema.TABLES[table])}
        if table == "events":
            row |= {"user_id": f"u{number}", "product_id": "p", "occurred_at": "2023-01-01", "quantity": "1"}
        else:
            row |= {"product_id": f"p{number}", "title": "T"}
        rows.append({**row, column: cell})
    frame = pl.DataFrame(rows, schema={name: pl.String for name in rows[0]})
    # column by column, because the unit of a time or the form of an id depends on the others of its column
    for column in sorted({case[1] for case in cases}):
        indices = [index for index, case in enumerate(cases) if case[1] == column]
        part = pl.concat([frame[indices], _good_rows(table, 3 * len(indices))], how="diagonal")
        products = ["p"] if table == "events" else None
        checked = validate(table, part, source="x.csv", settings=LENIENT, now=NOW, known_products=products)
        assert checked.accepted.height + checked.rejected.height + sum(checked.filtered.values()) == checked.rows_in
        codes = dict(checked.rejected.select("row_no", "code").iter_rows())
        for row_no, index in enumerate(indices, 1):
            _, _, cell, expected = cases[index]
            code = codes.get(row_no)
            if expected == "unknown_event_type":
                assert code is None, (column, cell, code)
            else:
                assert (code or "used") == expected, (column, str(cell)[:60], code)
        n_unknown = sum(cases[index][3] == "unknown_event_type" for index in indices)
        assert checked.filtered.get("unknown_event_type", 0) == n_unknown
        for row in (*checked.rejected.iter_rows(named=True), *checked.bad_cells.iter_rows(named=True)):
            message = rejects.message(row)
            assert "\n" not in message and "\x00" not in message and len(message) < 500


def _good_rows(table: str, number: int) -> pl.DataFrame:
    """Good rows, so that no column counts as misread and no table as rejected."""
    if table == "events":
        row = {"product_id": "p", "occurred_at": "2023-01-01", "quantity": "1", "value": "1"}
        return pl.DataFrame([{"user_id": f"good{n}", **row} for n in range(number)])
    row = {"price": "1", "available": "1", "created_at": "2023-01-01", "attributes": '{"a":1}'}
    return pl.DataFrame([{"product_id": f"good{n}", **row} for n in range(number)])


# Files

PRODUCTS = "product_id,title,price\n" + "".join(f"p{n},Thing {n},{n}.5\n" for n in range(40))
LINES = "".join(json.dumps({"product_id": f"p{n}", "title": f"Thing {n}", "price": n + 0.5}) + "\n" for n in range(40))


def _parquet() -> bytes:
    stream = io.BytesIO()
    pl.read_csv(io.StringIO(PRODUCTS)).write_parquet(stream)
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("products.csv", PRODUCTS)
    return stream.getvalue()


SOUND = {
    "products.csv": PRODUCTS.encode(), "products.tsv": PRODUCTS.replace(",", "\t").encode(),
    "products.jsonl": LINES.encode(),
    "products.json": ("[" + ",".join(LINES.splitlines()) + "]").encode(), "products.parquet": _parquet(),
    "products.csv.gz": gzip.compress(PRODUCTS.encode(), mtime=0), "products.csv.bz2": bz2.compress(PRODUCTS.encode()),
    "products.csv.xz": lzma.compress(PRODUCTS.encode()),
    "products.csv.zst": pa.compress(PRODUCTS.encode(), codec="zstd", asbytes=True), "products.zip": _zip(),
}  # fmt: skip
GARBAGE = {
    "empty": b"", "nul": b"\x00" * 200, "random": random.Random(0).randbytes(3000), "newlines": b"\n" * 300,
    "quotes": b'"' * 301, "commas": b"," * 300, "brackets": b"[" * 5000, "header only": b"product_id,title\n",
    "elf": b"\x7fELF" + bytes(300), "png": b"\x89PNG\r\n\x1a\n" + bytes(300), "html": b"<html><body>404</body></html>",
    "bom only": b"\xef\xbb\xbf", "utf-16 bom only": b"\xff\xfe", "pickle": b"\x80\x04\x95\x10", "one line": b"x",
    "twice": b"product_id,product_id\n1,2\n",
}  # fmt: skip


def _outcome(folder: Path, name: str, content: bytes) -> int:
    """Exit code of an ingest of one file; checks that every row is accounted for and that errors are one line."""
    path = folder / name
    path.write_bytes(content)
    try:
        result = ingest(read_inputs([path]).tables, settings=LENIENT, now=NOW)
    except RecsysError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 2000
        return error.exit_code
    for counts in result.counts.values():
        assert counts["rows_in"] == counts["used"] + counts["rejected"] + counts["filtered"]
    return 0


def test_sound_files_are_read(tmp_path: Path) -> None:
    assert {name: _outcome(tmp_path, name, content) for name, content in SOUND.items()} == dict.fromkeys(SOUND, 0)


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("kind", GARBAGE)
def test_files_of_something_else_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    assert _outcome(tmp_path, name, GARBAGE[kind]) in (UsageError.exit_code, DataContractError.exit_code)


@pytest.mark.parametrize("name", SOUND)
def test_damaged_files_are_read_as_far_as_they_go_or_refused(tmp_path: Path, name: str, faults_large: bool) -> None:
    content, dice = SOUND[name], random.Random(name)
    for _ in range(400 if faults_large else 12):
        damaged = bytearray(content)
        match dice.randrange(4):
            case 0:
                del damaged[dice.randrange(len(damaged)) :]
            case 1:
                for _ in range(dice.randint(1, 8)):
                    damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            case 2:
                start = dice.randrange(len(damaged))
                del damaged[start : start + dice.randint(1, 40)]
            case _:
                start = dice.randrange(len(damaged))
                damaged[start:start] = dice.randbytes(dice.randint(1, 40))
        assert _outcome(tmp_path, name, bytes(damaged)) in (0, 2, 3)


# Images

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
CODES = {
    "image_empty", "image_not_a_picture", "image_truncated", "image_broken", "image_too_large", "image_too_long",
    "image_too_many_scans",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_images_are_decoded_or_refused_with_a_code(form: str, faults_large: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    content, dice, settings = stream.getvalue(), random.Random(form), ImageSettings()
    refused = 0
    for number in range(2000 if faults_large else 90):
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        elif number % 3 == 1:
            for _ in range(dice.randint(1, 20)):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        else:
            damaged[: dice.randint(1, 40)] = dice.randbytes(dice.randint(0, 40))
        try:
            assert decode_image(bytes(damaged), settings).shape == (3, 64, 64)
        except ImageError as error:
            refused += 1
            assert error.code in CODES
    assert refused > 10
