"""The three data sets of Amazon Personalize: interactions, items, users; names in any case.

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
# several names for one column: the first that is there counts, the others become attributes
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
    """The preset `personalize`. Cells like `red|blue` in further columns are lists."""

    name: str = "personalize"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Columns a file must have for each table."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], stem: str) -> tuple[str, ...]:  # noqa: ARG002 - the columns tell
        """By the columns; ids of both kinds without a time are no table of this kind.

        `user_id` in lower case alone occurs in other formats too, so it needs the capitals or an ITEM_ID beside it.
        """
        there = {name.upper() for name in columns}
        if {"USER_ID", "ITEM_ID"} <= there:
            return ("events",) if "TIMESTAMP" in there else ()
        if "ITEM_ID" in there:
            return ("products",)
        return ("users",) if "USER_ID" in columns else ()

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename; what is left of products and users becomes attributes in small letters."""
        return (_shaped(frame, table) for frame in frames)


def _shaped(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    upper = {name.upper(): name for name in frame.columns if name not in MARKS}
    chosen: dict[str, str] = {}
    for canonical, names in _NAMES[table].items():
        found = next((upper[name] for name in names if name in upper), None)
        if found is not None:
            chosen[found] = canonical
    marks = [name for name in MARKS if name in frame.columns]
    out = frame.select(*marks, *chosen).rename(chosen)
    others = {name: name.lower() for name in upper.values() if name not in chosen}
    if table == "events" or not others:
        return out
    return out.with_columns(attributes.fold(frame, others, split="|"))
