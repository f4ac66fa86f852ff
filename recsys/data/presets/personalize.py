"""The preset for the data sets of Amazon Personalize: interactions, items, users; names in any case.

In: raw frames with USER_ID, ITEM_ID, TIMESTAMP ... Out: canonical events, products and users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from recsys.data import attributes, schema
from recsys.data.file_readers import MARKS

_NEEDS: Final = {
    "events": ("USER_ID", "ITEM_ID", "TIMESTAMP"),
    "products": ("ITEM_ID",),
    "users": ("USER_ID",),
}
# of several names for one column the first one present is used, the others become attributes
_NAMES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "events": {
        schema.USER_ID: ("USER_ID",),
        schema.PRODUCT_ID: ("ITEM_ID",),
        schema.OCCURRED_AT: ("TIMESTAMP",),
        schema.EVENT_TYPE: ("EVENT_TYPE",),
        schema.VALUE: ("EVENT_VALUE",),
        schema.QUANTITY: ("QUANTITY",),
        schema.ORDER_ID: ("ORDER_ID", "BASKET_ID"),
    },
    "products": {
        schema.PRODUCT_ID: ("ITEM_ID",),
        schema.TITLE: ("TITLE", "ITEM_NAME", "PRODUCT_NAME", "NAME"),
        schema.DESCRIPTION: ("PRODUCT_DESCRIPTION", "ITEM_DESCRIPTION", "DESCRIPTION"),
        schema.CATEGORY: ("CATEGORY_L1", "CATEGORY", "GENRES"),
        schema.BRAND: ("BRAND",),
        schema.PRICE: ("PRICE",),
        schema.CURRENCY: ("CURRENCY",),
        schema.IMAGE: ("IMAGE",),
        schema.AVAILABLE: ("AVAILABLE",),
        schema.GROUP_ID: ("GROUP_ID", "PARENT_ID"),
        schema.CREATED_AT: ("CREATION_TIMESTAMP",),
    },
    "users": {schema.USER_ID: ("USER_ID",)},
}


@dataclass(frozen=True)
class Personalize:
    """The preset `personalize`; cells such as `red|blue` in further columns are lists."""

    name: str = "personalize"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Canonical table to the columns that a file needs for it."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the columns tell
        """Recognise the table by its columns; user and item ids without a time are no table of Personalize.

        `user_id` in lower case occurs in other formats too, so users need the capitals or an ITEM_ID.
        """
        upper = {name.upper() for name in columns}
        if {"USER_ID", "ITEM_ID"} <= upper:
            return ("events",) if "TIMESTAMP" in upper else ()
        if "ITEM_ID" in upper:
            return ("products",)
        return ("users",) if "USER_ID" in columns else ()

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename columns; further columns of products and users become attributes in lower case."""
        return (_to_canonical(frame, table) for frame in frames)


def _to_canonical(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    upper = {name.upper(): name for name in frame.columns if name not in MARKS}
    renames: dict[str, str] = {}
    for canonical, names in _NAMES[table].items():
        original = next((upper[name] for name in names if name in upper), None)
        if original is not None:
            renames[original] = canonical
    marks = [name for name in MARKS if name in frame.columns]
    canonical_frame = frame.select(*marks, *renames).rename(renames)
    others = {name: name.lower() for name in upper.values() if name not in renames}
    if table == "events" or not others:
        return canonical_frame
    return canonical_frame.with_columns(attributes.fold(frame, others, split="|"))
