"""The tables of the H&M data set: articles, transactions_train, customers.

In: raw frames with H&M's columns. Out: canonical products, events (purchases) and users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from recsys.data import attributes, schema
from recsys.data import parsing as parse
from recsys.data.file_readers import MARKS

_NEEDS: Final = {
    "products": ("article_id", "prod_name"),
    "events": ("t_dat", "customer_id", "article_id"),
    "users": ("customer_id",),
}
_PRODUCTS: Final = {
    "article_id": schema.PRODUCT_ID,
    "prod_name": schema.TITLE,
    "detail_desc": schema.DESCRIPTION,
    "product_type_name": schema.CATEGORY,
    "product_code": schema.GROUP_ID,
}
_EVENTS: Final = {
    "customer_id": schema.USER_ID,
    "article_id": schema.PRODUCT_ID,
    "t_dat": schema.OCCURRED_AT,
    "price": schema.VALUE,
}
_NO_ATTRIBUTE: Final = frozenset({"customer_id", "postal_code"})


@dataclass(frozen=True)
class HM:
    """The preset `hm`. Prices are scaled by the publisher, so they are an event's value and no product's price."""

    name: str = "hm"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Columns a file must have for each table."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], stem: str) -> tuple[str, ...]:  # noqa: ARG002 - the columns tell
        """By the columns alone."""
        there = set(columns)
        return next(((table,) for table, needs in _NEEDS.items() if there.issuperset(needs)), ())

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename; the `*_name` columns of articles and all columns of customers become attributes."""
        return (_shaped(frame, table) for frame in frames)


def _shaped(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    marks = [name for name in MARKS if name in frame.columns]
    if table == "events":
        kept = [name for name in _EVENTS if name in frame.columns]
        return frame.select(*marks, *kept, pl.lit(schema.PURCHASE).alias(schema.EVENT_TYPE)).rename(
            {name: _EVENTS[name] for name in kept}
        )
    if table == "users":
        others = {name: name for name in frame.columns if name not in _NO_ATTRIBUTE and name not in MARKS}
        return frame.select(*marks, pl.col("customer_id").alias(schema.USER_ID)).with_columns(_numbered(frame, others))
    others = {
        name: name.removesuffix("_name")
        for name in frame.columns
        if name.endswith("_name") and name not in _PRODUCTS and name not in MARKS
    }
    kept = [name for name in _PRODUCTS if name in frame.columns]
    return (
        frame.select(*marks, *kept)
        .rename({name: _PRODUCTS[name] for name in kept})
        .with_columns(
            attributes.fold(frame, others),
            # the list is of all articles there ever were; which are sold is not said
            pl.lit(None, dtype=pl.Boolean).alias(schema.AVAILABLE),
        )
    )


def _numbered(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.Series:
    """Fold, with text columns that hold only numbers (age in a csv) as numbers."""
    columns = []
    for name in names:
        column = frame[name]
        if column.dtype == pl.String:
            found = parse.numbers(column)
            if found.null_count() == parse.text(column).null_count():
                column = found
        columns.append(column.alias(name))
    return attributes.fold(pl.DataFrame(columns), names)
