"""Tables with the canonical column names (schema.py), in csv, jsonl, parquet or a frame, perhaps renamed first.

In: raw frames with canonical or mapped names. Out: canonical columns; what else stands there becomes attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from recsys.data import attributes, schema
from recsys.data.file_readers import MARKS

_NEEDS: Final = {
    "events": (schema.USER_ID, schema.PRODUCT_ID, schema.OCCURRED_AT),
    "products": (schema.PRODUCT_ID,),
    "users": (schema.USER_ID,),
}
_OWN: Final = frozenset({schema.CONTENT_HASH, schema.IMAGE_HASH, schema.UPDATED_AT, schema.LINE_NO})
"""Columns the store fills itself; they stand in its exports and are left out on the way in."""


@dataclass(frozen=True)
class Canonical:
    """The preset `csv`, `jsonl`, `parquet`.

    Attributes:
        mapping: canonical name (or `attributes.<name>`) to the file's name.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    name: str = "csv"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Columns a file must have for each table."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], stem: str) -> tuple[str, ...]:
        """By the columns, and where they would do for two tables, by the file's name."""
        there = set(columns) | {new for new, old in self.mapping.items() if old in columns}
        fits = [table for table, needs in _NEEDS.items() if there.issuperset(needs)]
        for table in fits:
            if table.rstrip("s") in stem.lower():
                return (table,)
        if schema.USER_ID in there and schema.PRODUCT_ID in there:
            return ("events",) if "events" in fits else ()
        return (fits[0],) if fits else ()

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename, keep the table's columns, and fold the others of products and users into attributes."""
        return (self._shaped(frame, table) for frame in frames)

    def _shaped(self, frame: pl.DataFrame, table: str) -> pl.DataFrame:
        given = {old: new for new, old in self.mapping.items() if old in frame.columns}
        frame = frame.drop([new for old, new in given.items() if new in frame.columns and new != old]).rename(given)
        known = {column.name for column in schema.TABLES[table]}
        kept = frame.select([name for name in frame.columns if name in known or name in MARKS])
        if schema.ATTRIBUTES not in known:
            return kept
        others = {
            name: name.removeprefix(schema.ATTRIBUTE_PREFIX)
            for name in frame.columns
            if name not in known and name not in MARKS and name not in _OWN
        }
        if not others:
            return kept
        folded = attributes.fold(frame, others)
        if schema.ATTRIBUTES in kept.columns:
            folded = attributes.merge(kept[schema.ATTRIBUTES], folded)
        return kept.with_columns(folded)
