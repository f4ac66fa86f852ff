"""Queries that read a shop's own tables: parse them, check their columns, read their rows in batches.

In: queries of `[source]`, an open `SourceReader`. Out: one `SourceQuery` for each table; raw frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from recsys.data import file_readers as files
from recsys.data import parsing as parse
from recsys.data import schema
from recsys.data.input_sources import TABLES, SourceTable
from recsys.data.presets import get_preset
from recsys.errors import UsageError

if TYPE_CHECKING:
    from recsys.db.source_reader import SourceReader

SINCE: Final = "since"
"""Name of the query parameter with the time from which on rows are read."""
STAMPS: Final = {"products": schema.UPDATED_AT, "users": schema.UPDATED_AT, "events": schema.OCCURRED_AT}
"""The column whose newest value is the `:since` of the next ingest."""
_IDS: Final = frozenset({schema.PRODUCT_ID, schema.USER_ID, schema.ORDER_ID, schema.GROUP_ID})
_TOKEN: Final = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<literal>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`)"
    r"|(?P<since>(?<![\w:\\]):since\b)",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class SourceQuery:
    """The SELECT of one table.

    Attributes:
        table: `products`, `users` or `events`.
        text: the query; with `:since`, comments and a trailing semicolon are removed.
        incremental: the query has the parameter `:since`, so that an ingest reads only new rows.
    """

    table: str
    text: str
    incremental: bool

    @staticmethod
    def parse(table: str, query: str) -> SourceQuery:
        """Parse a query.

        Raises:
            UsageError: the query is empty or only a comment.
        """
        plain = _TOKEN.sub(lambda token: " " if token["comment"] else token[0], query).strip().rstrip(";").strip()
        if not plain:
            raise UsageError(f"[source] {table}_query is empty; write a SELECT")
        incremental = any(token["since"] for token in _TOKEN.finditer(plain))
        return SourceQuery(table, plain if incremental else query, incremental)

    @property
    def source(self) -> str:
        """Name of the source in messages and in `rejected_rows`."""
        return f"sql/{self.table}"

    @property
    def ordered(self) -> bool:
        """Whether rows are read in order of their time, so that an interrupted ingest can resume."""
        return self.incremental and self.table == "events"

    def fingerprint(self, reader: SourceReader) -> str:
        """Return 16 hex digits that depend on the database and the query, but not on its layout or the user."""
        url = reader.engine.url
        identity = (reader.kind, url.host, url.port, url.database, " ".join(self.text.split()))
        return blake2b(repr(identity).encode(), digest_size=8).hexdigest()

    def frames(
        self, reader: SourceReader, *, since: int = 0, batch: int = 50_000, start: int = 1
    ) -> Iterator[pl.DataFrame]:
        """Read the rows with files.MARKS; yields at least one frame, which may be empty.

        Args:
            reader: the open source.
            since: UTC seconds for `:since`; ignored by queries without it.
            batch: rows in each frame.
            start: number of the first row.

        Raises:
            UsageError: the database rejects the query, or a required column is missing.
            TemporaryError: the connection was lost.
        """
        query_name = f"{self.table}_query"
        query, params = self.text, None
        if self.incremental:
            query = "".join(_escape_colons(_TOKEN.sub(_escape_literal, self.text)))
            params = {SINCE: reader.to_timestamp(since)}
            names = reader.column_names(query, query_name=query_name, params=params)
            self._require_columns(names)
            if self.ordered:
                # ties in time are ordered by all other columns, so that two ingests number their rows equally
                others = [each.name for each in schema.EVENTS if each.name in names and each.name != schema.OCCURRED_AT]
                order = ", ".join([schema.OCCURRED_AT, *others])
                query = f"SELECT * FROM (\n{query}\n) AS shop_rows ORDER BY {order}"  # noqa: S608
        for frame in reader.stream(query, query_name=query_name, batch=batch, params=params, exact_columns=_IDS):
            self._require_columns(frame.columns)
            yield _decode_binary(files.add_row_numbers(frame, start=start))
            start += frame.height

    def _require_columns(self, names: list[str]) -> None:
        schema.require_columns(self.table, names, source="the query")
        if self.incremental and STAMPS[self.table] not in names:
            stamp = STAMPS[self.table]
            raise UsageError(
                f"{self.table}: the query mentions :since but has no column {stamp}, which tells how far the rows "
                f"have been read; add the time of the last change (SQL: AS {stamp})"
            )

    def to_canonical(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Convert raw columns to canonical ones; further columns become attributes."""
        (canonical,) = get_preset("csv").shape(iter([frame]), self.table)
        return canonical

    def stamps(self, frame: pl.DataFrame) -> pl.Series:
        """Return UTC seconds of each raw row; null where they cannot be parsed, or without `:since`."""
        if not self.incremental:
            return pl.repeat(None, frame.height, dtype=pl.Int64, eager=True)
        return parse.times(frame[STAMPS[self.table]])[0]


def _escape_literal(token: re.Match[str]) -> str:
    """Escape colons inside quotes, which SQLAlchemy would take for parameters."""
    return f":{SINCE}" if token["since"] else token[0].replace(":", "\\:")


def _escape_colons(query: str) -> Iterator[str]:
    """Yield the query with every `:name` outside quotes escaped but :since (`x::text` is no parameter)."""
    end = 0
    for colon in re.finditer(r"(?<![:\w\\]):(?=\w)(?!since\b)", query, re.IGNORECASE):
        yield query[end : colon.start()] + "\\:"
        end = colon.end()
    yield query[end:]


def _decode_binary(frame: pl.DataFrame) -> pl.DataFrame:
    """Decode binary columns as UTF-8; a row that cannot be decoded gets the reason in files.BAD."""
    for name in [name for name in frame.columns if frame.schema[name] == pl.Binary]:
        try:
            frame = frame.with_columns(frame[name].cast(pl.String))
        except pl.exceptions.PolarsError:
            values = frame[name].to_list()
            texts = [_decode(value) for value in values]
            undecodable = pl.Series(
                [text is None and value is not None for text, value in zip(texts, values, strict=True)]
            )
            reason = f"{name} holds bytes that are no UTF-8 text, write them as text in the SELECT (SQL: HEX({name}))"
            replaced = pl.Series([value.decode("utf-8", "replace") if value else None for value in values])
            frame = frame.with_columns(
                pl.Series(name, texts, dtype=pl.String),
                pl.when(undecodable & pl.col(files.BAD).is_null())
                .then(pl.lit(reason))
                .otherwise(files.BAD)
                .alias(files.BAD),
                pl.when(undecodable & pl.col(files.RAW).is_null()).then(replaced).otherwise(files.RAW).alias(files.RAW),
            )
    return frame


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def source_queries(queries: Mapping[str, str], *, folder: Path = Path()) -> list[SourceQuery]:
    """Parse the queries of `[source]`: products, then users, then events.

    Args:
        queries: table to SELECT with canonical names, or `@file.sql`.
        folder: what `@file.sql` is relative to.

    Raises:
        UsageError: there is no query, or its file is missing.
    """
    texts: dict[str, str] = {}
    for table, query in queries.items():
        if query.startswith("@"):
            path = folder / query[1:]
            if not path.is_file():
                raise UsageError(f"no such file: {path} (the {table} query)")
            query = path.read_text(encoding="utf-8")
        texts[table] = query
    if not texts:
        raise UsageError("no query to read with; set [source] products_query, events_query or users_query")
    return [SourceQuery.parse(table, texts[table]) for table in TABLES if table in texts]


def read_all(select: SourceQuery, reader: SourceReader) -> SourceTable:
    """Return the whole table as one source table."""
    return SourceTable(select.table, select.source, lambda: map(select.to_canonical, select.frames(reader)))
