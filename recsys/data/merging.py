"""Complete rows of a source that lacks columns with the stored values of those columns.

In: validated rows, the columns that their source has, stored rows. Out: complete rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl

from recsys.data import schema

KEYS = {"products": schema.PRODUCT_ID, "users": schema.USER_ID}
"""Key column of the tables whose rows are completed."""


@dataclass(frozen=True)
class SourceColumns:
    """The columns of a source.

    Attributes:
        names: canonical columns.
        attributes: names of single attributes; None if the source has a column with all attributes.
    """

    names: frozenset[str]
    attributes: frozenset[str] | None = None

    def is_complete(self, table: str) -> bool:
        """Return whether no stored value of the table can be kept."""
        needed = {column.name for column in schema.TABLES[table]}
        return needed <= self.names and self.attributes is None

    def lacks(self, table: str) -> tuple[str, ...]:
        """Return the canonical columns of a table that the source does not have."""
        return tuple(column.name for column in schema.TABLES[table] if column.name not in self.names)

    def covers(self, other: SourceColumns) -> bool:
        """Return whether rows of this source replace those of another completely."""
        if not other.names <= self.names:
            return False
        return self.attributes is None or (other.attributes is not None and other.attributes <= self.attributes)


def complete_rows(table: str, rows: pl.DataFrame, stored: pl.DataFrame, columns: SourceColumns) -> pl.DataFrame:
    """Return the rows with stored values in the columns that their source lacks.

    Args:
        table: `products` or `users`.
        rows: (n, c) canonical columns.
        stored: (m, c) canonical columns of earlier rows, each key once.
        columns: columns of the source.
    """
    if columns.is_complete(table) or not stored.height:
        return rows
    key = KEYS[table]
    names = [column.name for column in schema.TABLES[table] if column.name != key]
    before = stored.select(key, *[pl.col(name).alias(f"{name}__stored") for name in names])
    joined = rows.join(
        before.with_columns(pl.lit(value=True).alias("__known__")), on=key, how="left", maintain_order="left"
    )
    values: list[pl.Expr | pl.Series] = []
    for name in names:
        previous = pl.col(f"{name}__stored")
        if name == schema.ATTRIBUTES:
            values.append(_merge_attributes(joined, columns))
        elif name in columns.names:
            continue
        elif name == schema.AVAILABLE:  # without the column, rows say that the product is sold
            values.append(pl.when(pl.col("__known__")).then(previous).otherwise(pl.col(name)).alias(name))
        else:
            values.append(pl.coalesce(pl.col(name), previous).alias(name))
    return joined.with_columns(values).select(rows.columns)


def _merge_attributes(joined: pl.DataFrame, columns: SourceColumns) -> pl.Series:
    current = joined[schema.ATTRIBUTES]
    if columns.attributes is None and schema.ATTRIBUTES in columns.names:
        return current
    replaced = columns.attributes or frozenset()
    texts: list[str | None] = []
    for text, before in zip(current.to_list(), joined[f"{schema.ATTRIBUTES}__stored"].to_list(), strict=True):
        if before is None:
            texts.append(text)
            continue
        kept = {name: value for name, value in json.loads(before).items() if name not in replaced}
        merged = {**kept, **(json.loads(text) if text is not None else {})}
        dumped = json.dumps(merged, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        texts.append(dumped if merged else None)
    return pl.Series(schema.ATTRIBUTES, texts, dtype=pl.String)
