"""A shop's own database as it is read: one connection that cannot write, all SELECTs of one moment, in a stream.

In: a URL, SELECTs. Out: `SourceReader`, whose errors say what is wrong with the SELECT or the connection.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import polars as pl
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from recsys.db.engine import connect, sqlite_file, stream_on
from recsys.db.errors import first_line
from recsys.errors import ConfigError, NotFoundError, RecsysError, TemporaryError, UsageError

_SESSION: Final[Mapping[str, tuple[str, ...]]] = {
    # The whole result is wanted: without the second line PostgreSQL plans a cursor for its first tenth.
    "postgresql": ("SET default_transaction_read_only = on", "SET cursor_tuple_fraction = 1"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
}
"""What a new session is told, by database, beside what `connect` does (SQLite: the file is opened for reading)."""
_ISOLATION: Final[Mapping[str, str]] = {name: "REPEATABLE READ" for name in _SESSION}
"""Under which all SELECTs see the state of the first; SQLite's transactions always do."""
_RENAMED: Final = re.compile(r"^(.+):\d+$")
"""How SQLite calls the second column of a name in a subquery."""
_WRITES: Final = ("readonly database", "read-only transaction", "READ ONLY transaction")


class SourceReader:
    """An open source. Use it in a `with` block.

    Args:
        url: SQLAlchemy URL of the shop's database.

    Raises:
        ConfigError: unknown database, or wrong user, password or database name.
        NotFoundError: the SQLite file does not exist.
        DatabaseUnavailableError: the server does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            self.engine = connect(url, read_only=True)
        except ConfigError as error:
            raise type(error)(str(error).replace("[database] url", "[source] url")) from error
        self.kind = self.engine.dialect.name
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction and the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.engine.dispose()

    def moment(self, seconds: int) -> datetime | str:
        """UTC seconds as this database compares them with its times."""
        at = datetime.fromtimestamp(seconds, UTC)
        if self.kind == "postgresql":
            return at
        plain = at.replace(tzinfo=None)
        return plain.isoformat(sep=" ") if self.kind == "sqlite" else plain

    def columns(self, query: str, *, what: str, params: Mapping[str, Any] | None = None) -> list[str]:
        """Names a SELECT gives, by asking for none of its rows.

        Raises:
            UsageError: the database refuses the query, or a name stands twice.
        """
        asked = f"SELECT * FROM (\n{query}\n) AS asked WHERE 1 = 0"  # noqa: S608 - the shop's own SELECT
        (none,) = self.stream(asked, what=what, params=params)
        return none.columns

    def stream(
        self,
        query: str,
        *,
        what: str,
        batch: int = 50_000,
        params: Mapping[str, Any] | None = None,
        exact: Collection[str] = (),
    ) -> Iterator[pl.DataFrame]:
        """Rows of one SELECT in frames of at most `batch`; see `recsys.db.engine.stream_on`.

        Text of SQLite comes as bytes: whether it is UTF-8 is the data's matter and not the connection's.

        Args:
            query: one SELECT.
            what: name of the query in messages.
            batch: rows of a frame.
            params: values by name.
            exact: columns that become text exactly.

        Raises:
            UsageError: the database refuses the query, or a value cannot be read.
            TemporaryError: the database went away.
        """
        try:
            for frame in stream_on(self._opened(), query, batch=batch, params=params, exact=exact):
                for name in frame.columns if self.kind == "sqlite" else ():
                    if (twice := _RENAMED.match(name)) and twice[1] in frame.columns:
                        raise UsageError(
                            f"query names the column {twice[1]!r} twice; give each column a name of its own with AS"
                        )
                yield frame
        except Exception as error:
            raise _told(error, what) from error

    def _opened(self) -> Connection:
        if self._connection is None:
            connection = self.engine.connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        if self.kind == "sqlite":
            raw = connection.connection.driver_connection
            raw.text_factory = bytes  # type: ignore[union-attr]
            connection.exec_driver_sql("PRAGMA cache_size = -16384")  # kB; each row is wanted once
            return
        connection.execution_options(isolation_level=_ISOLATION[self.kind])
        for statement in _SESSION[self.kind]:
            connection.exec_driver_sql(statement)
        connection.commit()


def _told(error: Exception, what: str) -> Exception:
    """What the shop can do about it; errors that are not about the SELECT stay as they are."""
    if isinstance(error, TemporaryError) or (
        isinstance(error, RecsysError) and not isinstance(error, UsageError | NotFoundError)
    ):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error.__cause__
    cause = cause.orig if isinstance(cause, DBAPIError) else cause
    driver = cause or error
    if type(driver).__module__.partition(".")[0] in {"sqlite3", "psycopg", "pymysql", "MySQLdb"}:
        words = first_line(driver)
        if any(mark in words for mark in _WRITES):
            return UsageError(f"{what}: a query that writes is refused ({words}); write one SELECT, recsys only reads")
        return UsageError(f"{what}: the database refuses it: {words}; mend the SELECT")
    if isinstance(error, UsageError):
        return type(error)(f"{what}: {error}")
    return error


def same_database(one: Engine, other: Engine) -> bool:
    """Whether two engines, however they are addressed, mean the same database."""
    if one.dialect.name != other.dialect.name:
        return False
    if one.dialect.name == "sqlite":
        files = [sqlite_file(engine.url) for engine in (one, other)]
        first, second = (path and Path(path) for path in files)
        return bool(first and second and first.exists() and second.exists() and first.samefile(second))
    if one.dialect.name == "postgresql":
        return _postgres_names(one) == _postgres_names(other)
    places = [(engine.url.host, engine.url.port, engine.url.database) for engine in (one, other)]
    return places[0] == places[1]


def _postgres_names(engine: Engine) -> tuple[Any, ...]:
    with engine.connect() as connection:
        asked = "SELECT CAST(pg_postmaster_start_time() AS TEXT), current_database()"
        return tuple(connection.exec_driver_sql(asked).one())
