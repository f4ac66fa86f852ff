"""Names of all columns and event types, and the columns of each canonical input table.

In: nothing. Out: names; for each table its columns with kind and whether they are required, and the check of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from recsys.errors import UsageError

PRODUCT_ID: Final = "product_id"
TITLE: Final = "title"
DESCRIPTION: Final = "description"
BRAND: Final = "brand"
CATEGORY: Final = "category"
PRICE: Final = "price"
CURRENCY: Final = "currency"
IMAGE: Final = "image"
AVAILABLE: Final = "available"
GROUP_ID: Final = "group_id"
ATTRIBUTES: Final = "attributes"
CREATED_AT: Final = "created_at"
UPDATED_AT: Final = "updated_at"
CONTENT_HASH: Final = "content_hash"
IMAGE_HASH: Final = "image_hash"

USER_ID: Final = "user_id"
EVENT_TYPE: Final = "event_type"
OCCURRED_AT: Final = "occurred_at"
QUANTITY: Final = "quantity"
VALUE: Final = "value"
ORDER_ID: Final = "order_id"
LINE_NO: Final = "line_no"

ATTRIBUTE: Final = "attribute"
LABEL_VALUE: Final = "value"

ATTRIBUTE_PREFIX: Final = "attributes."
"""In the frame of a Catalogue, the attribute `colour` of the JSON column is the column `attributes.colour`."""

DEFAULT_USER: Final = "__default__"
"""The user whose recommendations serve all users without history."""

PURCHASE: Final = "purchase"
RATING: Final = "rating"
RETURN: Final = "return"
EVENT_TYPES: Final = ("purchase", "add_to_cart", "view", "wishlist", "rating", "return", "share", "comment")
"""Event types; the code of a type in `Interactions.event_type` is its position."""
PURCHASE_CODE: Final = EVENT_TYPES.index(PURCHASE)
RETURN_CODE: Final = EVENT_TYPES.index(RETURN)

DAY: Final = 86_400
"""Seconds."""

Kind = Literal["id", "text", "number", "bool", "time", "json"]


@dataclass(frozen=True)
class Column:
    """A canonical input column: its name, its kind, and whether a row without it is rejected."""

    name: str
    kind: Kind
    required: bool = False


PRODUCTS: Final = (
    Column(PRODUCT_ID, "id", required=True),
    Column(TITLE, "text"),
    Column(DESCRIPTION, "text"),
    Column(BRAND, "text"),
    Column(CATEGORY, "text"),
    Column(PRICE, "number"),
    Column(CURRENCY, "text"),
    Column(IMAGE, "text"),
    Column(AVAILABLE, "bool"),
    Column(GROUP_ID, "text"),
    Column(ATTRIBUTES, "json"),
    Column(CREATED_AT, "time"),
)
EVENTS: Final = (
    Column(USER_ID, "id", required=True),
    Column(PRODUCT_ID, "id", required=True),
    Column(EVENT_TYPE, "text"),
    Column(OCCURRED_AT, "time", required=True),
    Column(QUANTITY, "number"),
    Column(VALUE, "number"),
    Column(ORDER_ID, "text"),
)
USERS: Final = (
    Column(USER_ID, "id", required=True),
    Column(ATTRIBUTES, "json"),
)
LABELS: Final = (
    Column(PRODUCT_ID, "id", required=True),
    Column(ATTRIBUTE, "id"),
    Column(LABEL_VALUE, "text"),
)
"""Columns of a label file with one label in each row; the other form is PRODUCT_ID and one column for each label."""
TABLES: Final = {"products": PRODUCTS, "events": EVENTS, "users": USERS}

REJECTED_COLUMNS: Final = (
    "source",
    "row_no",
    "table_name",
    "code",
    "column_name",
    "value_excerpt",
    "row_json",
)


def require_columns(table: str, names: Collection[str], *, source: str) -> None:
    """Check that the required columns of a table are among the columns of a source.

    Args:
        table: `products`, `users` or `events`.
        names: column names of the source.
        source: what the message calls it, such as "the query".

    Raises:
        UsageError: a required column is missing.
    """
    for column in TABLES[table]:
        if column.required and column.name not in names:
            raise UsageError(f"{table}: {source} has no column {column.name}; rename one (SQL: AS {column.name})")
