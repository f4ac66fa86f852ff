"""Recognise which canonical table a file holds, by its name and its columns.

In: the column names and the path of a file. Out: the table, or what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from recsys.data import schema

_TABLE_WORDS: Final = {
    "products": (
        "product", "products", "item", "items", "catalog", "catalogue", "article", "articles", "stock", "prices",
        "inventory", "sku", "skus",
    ),
    "events": (
        "event", "events", "interaction", "interactions", "transaction", "transactions", "order", "orders", "purchase",
        "purchases", "sales", "clicks", "views", "ratings", "reviews", "log", "logs", "clickstream", "sessions",
        "behavior", "behaviour", "feedback", "invoices", "basket", "baskets", "lines",
    ),
    "users": ("user", "users", "customer", "customers", "client", "clients", "member", "members", "visitors"),
}  # fmt: skip
"""Words of file and folder names."""
ALIASES: Final = {
    schema.USER_ID: (
        "userid", "user", "uid", "customerid", "customer", "customerno", "customernumber", "clientid", "visitorid",
        "memberid", "accountid", "buyerid", "userpseudoid", "shopperid", "reviewerid", "anonymousid", "kundennummer",
    ),
    schema.PRODUCT_ID: (
        "productid", "itemid", "item", "product", "sku", "articleid", "articleno", "parentasin", "asin", "stockcode",
        "goodsid", "variantid", "productcode", "itemcode", "isbn", "movieid", "artikelnummer", "adid", "id",
    ),
    schema.OCCURRED_AT: (
        "occurredat", "timestamp", "time", "datetime", "date", "eventtime", "eventtimestamp", "eventdate", "createdat",
        "purchasedat", "orderedat", "orderdate", "invoicedate", "purchasedate", "tdat", "ts", "unixtime", "when", "day",
    ),
    schema.TITLE: ("title", "name", "productname", "itemname", "prodname", "booktitle", "producttitle"),
}  # fmt: skip
"""Names of other systems for canonical columns, without case and punctuation."""


def simplify(name: str) -> str:
    """Return a column name in lower case without punctuation: `Customer ID`, `customer_id` give `customerid`."""
    return re.sub(r"[\W_]+", "", name.lower())


def find_column(canonical: str, names: Iterable[str]) -> str | None:
    """Return the column that has the meaning of a canonical one by its own name or by one of other systems."""
    by_simple = {simplify(name): name for name in names}
    return next(
        (by_simple[alias] for alias in (simplify(canonical), *ALIASES.get(canonical, ())) if alias in by_simple), None
    )


def table_by_name(parts: Sequence[str]) -> str | None:
    """Return the table that a path is named after: the file name first, then its folders, the nearest first.

    A name with words of several tables (`product_views`, `customer_orders`) is of events.
    """
    for part in parts:
        words = set(re.split(r"[\W_\d]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", part).lower()))
        tables = [table for table, known in _TABLE_WORDS.items() if words & set(known)]
        if tables:
            return tables[0] if len(tables) == 1 else "events" if "events" in tables else tables[-1]
    return None


def recognise_table(
    names: Sequence[str], parts: Sequence[str], mapping: Mapping[str, str], needs: Mapping[str, Sequence[str]]
) -> tuple[str | None, list[str]]:
    """Return the table of a file and the required columns that it lacks; None for a file that fits nothing.

    A file with a user, a product and a time is of events, whatever its name; then the name decides, then the columns.

    Args:
        names: column names.
        parts: file name without suffix, and the names of its folders, the nearest first.
        mapping: canonical name to name in the file.
        needs: required columns by table.
    """
    available = set(names) | {new for new, old in mapping.items() if old in names}

    def lacks(table: str) -> list[str]:
        return [name for name in needs[table] if name not in available]

    has_user = schema.USER_ID in available or find_column(schema.USER_ID, names) is not None
    product_names = [name for name in names if simplify(name) != "id"]
    has_product = schema.PRODUCT_ID in available or find_column(schema.PRODUCT_ID, product_names) is not None
    has_time = schema.OCCURRED_AT in available or find_column(schema.OCCURRED_AT, names) is not None
    named = table_by_name(parts)
    if has_user and has_product and (has_time or named not in {"products", "users"}):
        return "events", lacks("events")
    if named == "events" and (has_user or has_product):
        return "events", lacks("events")
    if named == "users" and has_user:
        return "users", lacks("users")
    if named == "products" and (has_product or find_column(schema.PRODUCT_ID, names)):
        return "products", lacks("products")
    fitting = [table for table in ("products", "users") if not lacks(table)]
    return (fitting[0], []) if len(fitting) == 1 else (None, [])
