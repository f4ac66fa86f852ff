"""The preset for the invoice lines of UCI "Online Retail": one file with products, events and users.

In: raw frames with InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country.
Out: products (most frequent description, median price), purchases and returns, users with their country.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data.file_readers import BAD, RAW, ROW, SKIP

_COLUMNS: Final = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "CustomerID")
_RENAMES: Final = {
    "Invoice": "InvoiceNo",
    "Price": "UnitPrice",
    "Customer ID": "CustomerID",
    "CustomerId": "CustomerID",
}
"""Names in "Online Retail II" to those of the first data set."""
_NO_PRODUCTS: Final = (
    "POST", "DOT", "D", "M", "m", "C2", "S", "B", "AMAZONFEE", "BANK CHARGES", "CRUK", "ADJUST", "ADJUST2",
)  # fmt: skip
"""Stock codes of postage, discounts, samples, fees and manual entries."""


@dataclass(frozen=True)
class OnlineRetail:
    """The preset `online-retail`.

    Attributes:
        decimal: decimal mark of numbers in text files.
    """

    decimal: str = "."
    name: str = "online-retail"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Canonical table to the columns that a file needs, the same for all tables."""
        return dict.fromkeys(("products", "events", "users"), _COLUMNS)

    def recognise(self, columns: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the columns tell
        """Return all three tables for a file with the invoice columns."""
        return (
            ("products", "events", "users") if {_RENAMES.get(name, name) for name in columns} >= set(_COLUMNS) else ()
        )

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Convert rows to events one by one; products and users are aggregated over all rows."""
        frames = (frame.rename({old: new for old, new in _RENAMES.items() if old in frame.columns}) for frame in frames)
        if table == "events":
            return (_events(frame, self.decimal) for frame in frames)
        lines = pl.concat(
            [_parse_lines(frame.filter(pl.col(BAD).is_null()), self.decimal) for frame in frames],
            how="diagonal",
        )
        return iter([_products(lines) if table == "products" else _users(lines)])


def _parse_lines(frame: pl.DataFrame, decimal: str) -> pl.DataFrame:
    """Return the columns as text; ids that are floats lose their `.0`."""
    texts = {name: parse.ids(frame[name])[0] for name in ("InvoiceNo", "StockCode", "CustomerID")}
    texts["CustomerID"] = texts["CustomerID"].str.strip_suffix(".0")
    for name in ("Description", "Country"):
        texts[name] = parse.text(frame[name]).str.strip_chars() if name in frame.columns else _nulls(frame.height)
    prices = (
        parse.numbers(frame["UnitPrice"], decimal=decimal) if "UnitPrice" in frame.columns else _nulls(frame.height)
    )
    return pl.DataFrame([column.alias(name) for name, column in texts.items()]).with_columns(
        prices.cast(pl.Float64).alias("UnitPrice"),
        parse.numbers(frame["Quantity"], decimal=decimal).alias("Quantity"),
        frame[ROW],
    )


def _nulls(height: int) -> pl.Series:
    return pl.Series([None] * height, dtype=pl.String)


def _events(frame: pl.DataFrame, decimal: str) -> pl.DataFrame:
    lines = _parse_lines(frame, decimal)
    is_return = pl.col("InvoiceNo").str.starts_with("C")
    # a number that cannot be parsed stays text, so that validation can show it
    quantity = pl.coalesce(_to_text(pl.col("Quantity").abs(), decimal), pl.col("raw_quantity"))
    skip = (
        pl.when(pl.col(BAD).is_not_null())
        .then(None)
        .when(pl.col("StockCode").is_in(_NO_PRODUCTS))
        .then(pl.lit("not_a_product"))
        .when(pl.col("CustomerID").is_null())
        .then(pl.lit("no_customer"))
        .when(~is_return & (pl.col("Quantity") <= 0))
        .then(pl.lit("stock_correction"))
    )
    value = pl.coalesce(_to_text(pl.col("UnitPrice") * pl.col("Quantity").abs(), decimal), pl.col("raw_price"))
    return lines.with_columns(
        parse.text(frame["Quantity"]).alias("raw_quantity"),
        (parse.text(frame["UnitPrice"]) if "UnitPrice" in frame.columns else _nulls(frame.height)).alias("raw_price"),
        _to_iso(frame["InvoiceDate"]).alias("when"),
        frame[BAD],
        frame[RAW],
    ).select(
        ROW,
        BAD,
        RAW,
        skip.alias(SKIP),
        pl.col("CustomerID").alias(schema.USER_ID),
        pl.col("StockCode").alias(schema.PRODUCT_ID),
        pl.when(is_return).then(pl.lit("return")).otherwise(pl.lit(schema.PURCHASE)).alias(schema.EVENT_TYPE),
        pl.col("when").alias(schema.OCCURRED_AT),
        quantity.alias(schema.QUANTITY),
        value.alias(schema.VALUE),
        pl.col("InvoiceNo").alias(schema.ORDER_ID),
    )


def _to_text(number: pl.Expr, decimal: str) -> pl.Expr:
    return number.cast(pl.String).str.replace(".", decimal, literal=True)


def _to_iso(column: pl.Series) -> pl.Series:
    """Convert times such as `12/1/2010 8:26` to ISO; other text is left to validation."""
    if column.dtype != pl.String:
        return column
    us_format = r"^(\d{1,2})/(\d{1,2})/(\d{4}) +(\d{1,2}:\d{2}(?::\d{2})?)$"
    return column.str.strip_chars().str.replace(us_format, "$3-$1-$2 $4")


def _products(lines: pl.DataFrame) -> pl.DataFrame:
    product_lines = lines.filter(~pl.col("StockCode").is_in(_NO_PRODUCTS) & pl.col("StockCode").is_not_null())
    is_sale = (pl.col("Quantity") > 0) & (pl.col("UnitPrice") > 0)
    # sales have the name of the product as description; other lines often a remark ("damaged", "check")
    names = (
        product_lines.filter(pl.col("Description").is_not_null())
        .group_by("StockCode", "Description")
        .agg(is_sale.sum().alias("sold"), pl.len().alias("count"))
        .sort(["StockCode", "sold", "count", "Description"], descending=[False, True, True, False])
        .group_by("StockCode", maintain_order=True)
        .first()
    )
    prices = product_lines.group_by("StockCode").agg(
        pl.col("UnitPrice").filter(is_sale).median().alias(schema.PRICE), pl.col(ROW).min().alias(ROW)
    )
    return (
        prices.join(names.select("StockCode", "Description"), on="StockCode", how="left")
        .sort(ROW)
        .select(
            ROW,
            pl.col("StockCode").alias(schema.PRODUCT_ID),
            pl.col("Description").alias(schema.TITLE),
            pl.col(schema.PRICE),
            pl.when(pl.col(schema.PRICE).is_not_null()).then(pl.lit("GBP")).alias(schema.CURRENCY),
        )
    )


def _users(lines: pl.DataFrame) -> pl.DataFrame:
    customers = (
        lines.filter(pl.col("CustomerID").is_not_null())
        .group_by("CustomerID", "Country")
        .agg(pl.len().alias("count"), pl.col(ROW).min().alias(ROW))
        .sort(["count", "Country"], descending=[True, False])
        .group_by("CustomerID", maintain_order=True)
        .first()
        .sort(ROW)
    )
    return customers.select(ROW, pl.col("CustomerID").alias(schema.USER_ID)).with_columns(
        attributes.fold(customers, {"Country": "country"})
    )
