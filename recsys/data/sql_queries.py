"""The SELECTs by which a shop's own tables are read: what they mention, what they must give, their rows in batches.

In: queries of `[source]`, an open `SourceReader`. Out: a `SourceQuery` a table; raw frames with canonical columns.
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
from recsys.data.presets import find
from recsys.errors import UsageError

if TYPE_CHECKING:
    from recsys.db.source_reader import SourceReader

SINCE: Final = "since"
"""Name of the parameter a query may mention: only rows from this moment on are wanted."""
STAMPS: Final = {"products": schema.UPDATED_AT, "users": schema.UPDATED_AT, "events": schema.OCCURRED_AT}
"""The column whose newest value is where the next reading begins."""
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
        text: the query; one that mentions `:since` without comments and without the semicolon at its end.
        incremental: it mentions `:since`, so that a night reads only what is new.
    """

    table: str
    text: str
    incremental: bool

    @staticmethod
    def of(table: str, query: str) -> SourceQuery:
        """Read a query.

        Raises:
            UsageError: nothing is left of it without its comments.
        """
        plain = _TOKEN.sub(lambda found: " " if found["comment"] else found[0], query).strip().rstrip(";").strip()
        if not plain:
            raise UsageError(f"[source] {table}_query is empty; write a SELECT")
        incremental = any(found["since"] for found in _TOKEN.finditer(plain))
        return SourceQuery(table, plain if incremental else query, incremental)

    @property
    def source(self) -> str:
        """Its name in messages and in `rejected_rows`."""
        return f"sql/{self.table}"

    @property
    def ordered(self) -> bool:
        """Whether rows are asked for in order of their time, so that a stopped reading can go on in the middle."""
        return self.incremental and self.table == "events"

    def fingerprint(self, reader: SourceReader) -> str:
        """16 hex digits that change with the database or the query; how it is laid out and who reads do not count."""
        url = reader.engine.url
        where = (reader.kind, url.host, url.port, url.database, " ".join(self.text.split()))
        return blake2b(repr(where).encode(), digest_size=8).hexdigest()

    def frames(
        self, reader: SourceReader, *, since: int = 0, batch: int = 50_000, start: int = 1
    ) -> Iterator[pl.DataFrame]:
        """Raw rows as the database gives them, with files.MARKS; at least one frame, which may be empty.

        Args:
            reader: the open source.
            since: UTC seconds for `:since`; not looked at by queries that do not mention it.
            batch: rows of a frame.
            start: number of the first row.

        Raises:
            UsageError: the database refuses the query, or it gives not the columns it must.
            TemporaryError: the database went away.
        """
        what = f"{self.table}_query"
        query, params = self.text, None
        if self.incremental:
            query = "".join(_parts(_TOKEN.sub(_escaped, self.text)))
            params = {SINCE: reader.to_timestamp(since)}
            names = reader.column_names(query, query_name=what, params=params)
            self._complete(names)
            if self.ordered:
                # by time, and where that is the same by all else, so that two readings number their rows alike
                others = [each.name for each in schema.EVENTS if each.name in names and each.name != schema.OCCURRED_AT]
                order = ", ".join([schema.OCCURRED_AT, *others])
                query = f"SELECT * FROM (\n{query}\n) AS shop_rows ORDER BY {order}"  # noqa: S608
        for frame in reader.stream(query, query_name=what, batch=batch, params=params, exact_columns=_IDS):
            self._complete(frame.columns)
            yield _readable(files.add_row_numbers(frame, start=start))
            start += frame.height

    def _complete(self, names: list[str]) -> None:
        needed = [column.name for column in schema.TABLES[self.table] if column.required]
        lacks = [name for name in needed if name not in names]
        if lacks:
            raise UsageError(f"{self.table}: the query gives no column {lacks[0]}; name it so (SQL: AS {lacks[0]})")
        if self.incremental and STAMPS[self.table] not in names:
            stamp = STAMPS[self.table]
            raise UsageError(
                f"{self.table}: the query mentions :since but gives no column {stamp}, by which recsys would know how "
                f"far it has read; add the time of the last change (SQL: AS {stamp})"
            )

    def to_canonical(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Canonical columns of raw ones; what else the query gives becomes attributes."""
        (shaped,) = find("csv").shape(iter([frame]), self.table)
        return shaped

    def stamps(self, frame: pl.DataFrame) -> pl.Series:
        """UTC seconds of each raw row; null where they cannot be read or are not asked for."""
        if not self.incremental:
            return pl.repeat(None, frame.height, dtype=pl.Int64, eager=True)
        return parse.times(frame[STAMPS[self.table]])[0]


def _escaped(found: re.Match[str]) -> str:
    """Colons inside of quotes mean themselves; SQLAlchemy wants that said."""
    return f":{SINCE}" if found["since"] else found[0].replace(":", "\\:")


def _parts(query: str) -> Iterator[str]:
    """The query, where every `:name` outside of quotes that is not :since is escaped (`x::text` is no parameter)."""
    at = 0
    for found in re.finditer(r"(?<![:\w\\]):(?=\w)(?!since\b)", query, re.IGNORECASE):
        yield query[at : found.start()] + "\\:"
        at = found.end()
    yield query[at:]


def _readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Bytes become text; a row with bytes that are none cannot be read and says so in files.BAD."""
    for name in [name for name in frame.columns if frame.schema[name] == pl.Binary]:
        try:
            frame = frame.with_columns(frame[name].cast(pl.String))
        except pl.exceptions.PolarsError:
            values = frame[name].to_list()
            texts = [_decoded(value) for value in values]
            broken = pl.Series([text is None and value is not None for text, value in zip(texts, values, strict=True)])
            reason = f"{name} holds bytes that are no UTF-8 text, write them as text in the SELECT (SQL: HEX({name}))"
            shown = pl.Series([value.decode("utf-8", "replace") if value else None for value in values])
            frame = frame.with_columns(
                pl.Series(name, texts, dtype=pl.String),
                pl.when(broken & pl.col(files.BAD).is_null())
                .then(pl.lit(reason))
                .otherwise(files.BAD)
                .alias(files.BAD),
                pl.when(broken & pl.col(files.RAW).is_null()).then(shown).otherwise(files.RAW).alias(files.RAW),
            )
    return frame


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def source_queries(queries: Mapping[str, str], *, folder: Path = Path()) -> list[SourceQuery]:
    """The SELECTs of `[source]`, products first, then users, then events.

    Args:
        queries: table to SELECT with canonical names, or `@file.sql`.
        folder: what `@file.sql` is relative to.

    Raises:
        UsageError: no query, or its file is missing.
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
    return [SourceQuery.of(table, texts[table]) for table in TABLES if table in texts]


def read_all(select: SourceQuery, reader: SourceReader) -> SourceTable:
    """All rows of one table as a part, for those who need them together."""
    return SourceTable(select.table, select.source, lambda: map(select.to_canonical, select.frames(reader)))
