"""Build the rows of table `rejected_rows`, and the message for each reason code.

In: the rejected rows of a table with code, column and cell. Out: a frame of schema.REJECTED_COLUMNS, messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from recsys.data import schema
from recsys.data.file_readers import MARKS, RAW, ROW
from recsys.log import printable

SCHEMA: Final = {name: pl.Int64 if name == "row_no" else pl.String for name in schema.REJECTED_COLUMNS}

_EXCERPT: Final = 120
_CELL: Final = 500

# {value} is the quoted cell, {plain} the same without quotes, {other} the decimal mark that is not set
_SENTENCES: Final = {
    "bad_row": "the line cannot be read: {plain}; mend it or take it out",
    "missing_id": "no {column}; give every row one",
    "missing_time": "no {column}; give every event its time",
    "reserved_id": "{column} {value} is reserved for the list of users without history; rename the user",
    "nul_in_text": "a NUL character in column {column}; take it out",
    "too_long": "{column} {value} is longer than {limit} characters; shorten it",
    "bad_number": '{column} {value} is not a number (column {column}); set [data] decimal = "{other}"',
    "negative_number": "{column} {value} is below zero (column {column}); {remedy}",
    "bad_truth": "{column} {value} is neither true nor false (column {column})",
    "bad_time": "{column} {value} is no time (column {column}); write 2024-05-31T18:00:00Z or seconds since 1970",
    "future_time": "{column} {value} lies more than 24 hours ahead (column {column}); check the unit and the clock",
    "bad_json": "{column} {value} is no JSON object (column {column}); write {{}} or nothing where there is none",
    "unknown_event_type": "event_type {value} is not one of {types}; rename it",
    "unknown_product": "product_id {value} is not in the catalogue; ingest products first, or mend the id",
    "conflicting_duplicate": "{column} {value} stands twice, with different content (the first is kept); mend one",
    "missing_label": "no label in the row (column {column}); give it one or take the row out",
    "repeated_label": "{column} {value} is labelled twice (the first is kept); take one row out",
    "image_missing": "image {value} is not among the images; check the names in column image",
    "image_outside_folder": "image {value} lies outside the images folder; give a name inside it",
    "image_remote": "image {value} is an address; remote images are not fetched, give files",
    "image_not_a_file": "image {value} is no plain file; give a file",
    "image_empty": "image {value} is empty; export it again",
    "image_not_a_picture": "image {value} is no JPEG, PNG, GIF or WebP inside, whatever its name; export it again",
    "image_truncated": "image {value} is cut off; copy it again",
    "image_broken": "image {value} cannot be decoded; export it again",
    "image_too_large": "image {value} is larger than [images] max_megapixels or max_megabytes; shrink it",
    "image_too_long": "image {value} is longer than [images] max_aspect times its width; crop it",
    "image_too_many_scans": "image {value} has too many progressive scans; save it as an ordinary JPEG",
}
LIMITS: Final = {"id": 255, "text": 100_000, "json": 100_000}
"""Maximum length in characters by kind of column."""


def no_rejected_rows() -> pl.DataFrame:
    """Return an empty frame of rejected rows."""
    return pl.DataFrame(schema=SCHEMA)


def concat(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate frames of rejected rows, possibly none."""
    return pl.concat([no_rejected_rows(), *frames])


def rejected_rows(bad: pl.DataFrame, *, source: str, table: str) -> pl.DataFrame:
    """Convert rejected input rows to the columns of `rejected_rows`.

    Args:
        bad: (r, c) input rows with ROW, RAW and `__code__`, `__column__`, `__cell__`.
        source: name of their source.
        table: canonical table.
    """
    if not bad.height:
        return no_rejected_rows()
    names = [name for name in bad.columns if name not in MARKS and not name.startswith("__")]
    raw_lines = bad[RAW].to_list() if RAW in bad.columns else [None] * bad.height
    texts = []
    for line, row in zip(raw_lines, bad.select(names).iter_rows(named=True), strict=True):
        cells = {"line": line} if line is not None else {name: _shorten(cell) for name, cell in row.items()}
        texts.append(sanitize_text(json.dumps(cells, ensure_ascii=False, default=str).replace("\\u0000", "\u2400")))
    excerpts = [None if cell is None else sanitize_text(cell)[:_EXCERPT] for cell in bad["__cell__"].to_list()]
    return pl.DataFrame(
        {
            "source": [source] * bad.height,
            "row_no": bad[ROW],
            "table_name": [table] * bad.height,
            "code": bad["__code__"],
            "column_name": bad["__column__"],
            "value_excerpt": excerpts,
            "row_json": texts,
        },
        schema=SCHEMA,
    )


def rejected_images(problems: list[tuple[str, str, str]], *, source: str) -> pl.DataFrame:
    """Convert images that failed (product id, file name, code) to rows of `rejected_rows`; `row_no` counts them."""
    rows = [
        (source, number, "images", code, schema.IMAGE, sanitize_text(name)[:_EXCERPT], _image_json(product, name))
        for number, (product, name, code) in enumerate(problems, start=1)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _image_json(product: str, name: str) -> str:
    return sanitize_text(json.dumps({schema.PRODUCT_ID: product, schema.IMAGE: name}, ensure_ascii=False))


def _shorten(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell[:_CELL]
    return cell if isinstance(cell, int | None) else str(cell)[:_CELL]


def sanitize_text(text: str) -> str:
    """Replace characters that databases reject: NUL by its symbol, lone surrogates by a question mark."""
    return text.replace("\x00", "\u2400").encode("utf-8", "replace").decode()


def message(row: Mapping[str, Any], *, decimal: str = ".") -> str:
    """Return a one-line message: the row, what is wrong, what to do.

    Args:
        row: a row of `rejected_rows`.
        decimal: the decimal mark of the settings; the message proposes the other one.
    """
    column, cell, table = row["column_name"], row["value_excerpt"], row["table_name"]
    plain = printable(cell or "")
    shown = plain if len(plain) <= 60 else plain[:57] + "..."
    is_price = column == schema.PRICE
    sentence = _SENTENCES[row["code"]].format(
        column=column,
        value=f"'{shown}'",
        plain=shown if row["code"] != "bad_row" else plain,
        limit=LIMITS.get(_column_kind(table, column), LIMITS["text"]),
        other="," if decimal == "." else ".",
        types=", ".join(schema.EVENT_TYPES),
        remedy="leave it empty if it is not known" if is_price else "write the amount and event_type return",
    )
    if row["code"] == "bad_number" and ("," if decimal == "." else ".") not in plain:
        sentence = sentence.partition("; set")[0] + "; mend it or leave it empty"
    where = (
        f"product {json.loads(row['row_json'])[schema.PRODUCT_ID]!r}" if table == "images" else f"row {row['row_no']}"
    )
    return f"{table} {where}: {sentence}"


def _column_kind(table: str, column: str | None) -> str:
    return next(
        (entry.kind for entry in {**schema.TABLES, "labels": schema.LABELS}.get(table, ()) if entry.name == column),
        "text",
    )


def summary(rejected: pl.DataFrame, *, decimal: str = ".", limit: int = 3) -> list[str]:
    """Return the most frequent reasons, each with its count and its first row as an example."""
    if not rejected.height:
        return []
    groups = (
        rejected.group_by("table_name", "code", maintain_order=True)
        .agg(pl.len().alias("count"), pl.all().exclude("table_name", "code").first())
        .sort(["count", "code"], descending=[True, False])
    )
    return [
        f"{row['code']} {row['count']:,}, e.g. {message(row, decimal=decimal)}"
        for row in groups.head(limit).iter_rows(named=True)
    ]
