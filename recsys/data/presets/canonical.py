"""The preset for canonical column names (schema.py) in csv, jsonl, parquet or a frame, with an optional mapping.

In: raw frames with canonical or mapped names. Out: canonical columns; further columns become attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from recsys.data import attributes, schema
from recsys.data.formats.rows import KEYS, MARKS, UNTYPED
from recsys.data.table_recognition import recognise_table

_NEEDS: Final = {
    "events": (schema.USER_ID, schema.PRODUCT_ID, schema.OCCURRED_AT),
    "products": (schema.PRODUCT_ID,),
    "users": (schema.USER_ID,),
}
_OWN: Final = frozenset({schema.CONTENT_HASH, schema.IMAGE_HASH, schema.UPDATED_AT, schema.LINE_NO})
"""Columns that the store computes; they are in its exports and are dropped on ingest."""


@dataclass(frozen=True)
class Canonical:
    """The preset `csv`, `jsonl`, `parquet`.

    Attributes:
        mapping: canonical name (or `attributes.<name>`) to name in the file.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    name: str = "csv"

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Canonical table to the columns that a file needs for it."""
        return _NEEDS

    def recognise(self, columns: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
        """Recognise the table by its columns and its name."""
        table, lacks = recognise_table(columns, parts, self.mapping, _NEEDS)
        return (table,) if table and not lacks else ()

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Rename and select the columns of the table; further columns of products and users become attributes."""
        return (self._to_canonical(frame, table) for frame in frames)

    def _to_canonical(self, frame: pl.DataFrame, table: str) -> pl.DataFrame:
        frame = self._rename(frame)
        canonical = {column.name for column in schema.TABLES[table]}
        selected = frame.select([name for name in frame.columns if name in canonical or name in MARKS])
        if schema.ATTRIBUTES not in canonical:
            return selected
        others = {
            name: name.removeprefix(schema.ATTRIBUTE_PREFIX)
            for name in frame.columns
            if name not in canonical and name not in MARKS and name not in _OWN
        }
        if schema.ATTRIBUTES not in selected.columns:
            selected = selected.with_columns(pl.lit("\x00".join(others.values())).alias(KEYS))
        if not others:
            return selected
        folded = attributes.fold(frame, others, untyped=UNTYPED in frame.columns)
        if schema.ATTRIBUTES in selected.columns:
            folded = attributes.merge(selected[schema.ATTRIBUTES], folded)
        return selected.with_columns(folded)

    def _rename(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Apply the mapping to all columns at once, so that names can be exchanged and a column used twice."""
        sources = {new: old for new, old in self.mapping.items() if old in frame.columns}
        if not sources:
            return frame
        remaining = frame.drop({*sources, *sources.values()} & set(frame.columns))
        return remaining.hstack([frame[old].alias(new) for new, old in sources.items()])
