"""The preset for the H&M data set: articles, transactions_train, customers.

In: raw frames with the columns of H&M. Out: canonical products, events (purchases) and users.
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
    """The preset `hm`; prices are scaled by the publisher, so they become the value of events, not prices."""

    name: str = "hm"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Canonical table to the columns that a file needs for it."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the columns tell
        """Recognise the table by its columns."""
        available = set(columns)
        return next(((table,) for table, needs in _NEEDS.items() if available.issuperset(needs)), ())

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename columns; the `*_name` columns of articles and all columns of customers become attributes."""
        return (_to_canonical(frame, table) for frame in frames)


def _to_canonical(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    marks = [name for name in MARKS if name in frame.columns]
    if table == "events":
        names = [name for name in _EVENTS if name in frame.columns]
        return frame.select(*marks, *names, pl.lit(schema.PURCHASE).alias(schema.EVENT_TYPE)).rename(
            {name: _EVENTS[name] for name in names}
        )
    if table == "users":
        others = {name: name for name in frame.columns if name not in _NO_ATTRIBUTE and name not in MARKS}
        return frame.select(*marks, pl.col("customer_id").alias(schema.USER_ID)).with_columns(
            _fold_with_numbers(frame, others)
        )
    others = {
        name: name.removesuffix("_name")
        for name in frame.columns
        if name.endswith("_name") and name not in _PRODUCTS and name not in MARKS
    }
    names = [name for name in _PRODUCTS if name in frame.columns]
    return (
        frame.select(*marks, *names)
        .rename({name: _PRODUCTS[name] for name in names})
        .with_columns(
            attributes.fold(frame, others),
            # the file lists all articles there ever were; whether one is still sold is unknown
            pl.lit(None, dtype=pl.Boolean).alias(schema.AVAILABLE),
        )
    )


def _fold_with_numbers(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.Series:
    """Fold columns into attributes; text columns of numbers (age in a csv) become numbers."""
    columns = []
    for name in names:
        column = frame[name]
        if column.dtype == pl.String:
            numbers = parse.numbers(column)
            if numbers.null_count() == parse.text(column).null_count():
                column = numbers
        columns.append(column.alias(name))
    return attributes.fold(pl.DataFrame(columns), names)
