"""Read a source database: one read-only connection, one snapshot for all SELECTs, streamed rows.

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

_SESSION_STATEMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    # All rows are read: without the second statement PostgreSQL plans a cursor for the first tenth of them.
    "postgresql": ("SET default_transaction_read_only = on", "SET cursor_tuple_fraction = 1"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
}
"""Statements of a new session by database, besides those of `connect` (SQLite: none are needed)."""
_ISOLATION: Final[Mapping[str, str]] = {name: "REPEATABLE READ" for name in _SESSION_STATEMENTS}
"""Isolation level under which all SELECTs see the first one's snapshot; SQLite transactions always do."""
_SQLITE_DUPLICATE: Final = re.compile(r"^(.+):\d+$")
"""Name that SQLite gives to the second column of a name in a subquery."""
_WRITE_ERRORS: Final = ("readonly database", "read-only transaction", "READ ONLY transaction")


class SourceReader:
    """Connection to a source database. Use it in a `with` block.

    Args:
        url: SQLAlchemy URL of the source database.

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
        """End the transaction and close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.engine.dispose()

    def to_timestamp(self, seconds: int) -> datetime | str:
        """Convert UTC seconds to a value that this database compares with its timestamps."""
        time = datetime.fromtimestamp(seconds, UTC)
        if self.kind == "postgresql":
            return time
        naive = time.replace(tzinfo=None)
        return naive.isoformat(sep=" ") if self.kind == "sqlite" else naive

    def column_names(self, query: str, *, query_name: str, params: Mapping[str, Any] | None = None) -> list[str]:
        """Return the column names of a SELECT without reading its rows.

        Raises:
            UsageError: the database refuses the query, or a column name occurs twice.
        """
        statement = f"SELECT * FROM (\n{query}\n) AS asked WHERE 1 = 0"  # noqa: S608 - the user's own SELECT
        (empty,) = self.stream(statement, query_name=query_name, params=params)
        return empty.columns

    def stream(
        self,
        query: str,
        *,
        query_name: str,
        batch: int = 50_000,
        params: Mapping[str, Any] | None = None,
        exact_columns: Collection[str] = (),
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of one SELECT in frames of at most `batch` rows; see `recsys.db.engine.stream_on`.

        SQLite text is returned as bytes: validation of the data, not the connection, decides whether it is UTF-8.

        Args:
            query: one SELECT.
            query_name: name of the query in messages.
            batch: rows of a frame.
            params: parameter values by name.
            exact_columns: columns that are converted to text digit by digit.

        Raises:
            UsageError: the database refuses the query, or a value cannot be read.
            TemporaryError: the connection was lost.
        """
        try:
            for frame in stream_on(
                self._open_connection(), query, batch=batch, params=params, exact_columns=exact_columns
            ):
                for name in frame.columns if self.kind == "sqlite" else ():
                    if (duplicate := _SQLITE_DUPLICATE.match(name)) and duplicate[1] in frame.columns:
                        raise UsageError(
                            f"query names the column {duplicate[1]!r} twice; give each column its own name with AS"
                        )
                yield frame
        except Exception as error:
            raise _add_query_name(error, query_name) from error

    def _open_connection(self) -> Connection:
        if self._connection is None:
            connection = self.engine.connect()
            try:
                self._start_session(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _start_session(self, connection: Connection) -> None:
        if self.kind == "sqlite":
            raw = connection.connection.driver_connection
            raw.text_factory = bytes  # type: ignore[union-attr]
            connection.exec_driver_sql("PRAGMA cache_size = -16384")  # kB; each row is read once
            return
        connection.execution_options(isolation_level=_ISOLATION[self.kind])
        for statement in _SESSION_STATEMENTS[self.kind]:
            connection.exec_driver_sql(statement)
        connection.commit()


def _add_query_name(error: Exception, what: str) -> Exception:
    """Return an error that names the query and its correction; other errors are returned unchanged."""
    if isinstance(error, TemporaryError) or (
        isinstance(error, RecsysError) and not isinstance(error, UsageError | NotFoundError)
    ):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error.__cause__
    cause = cause.orig if isinstance(cause, DBAPIError) else cause
    driver = cause or error
    if type(driver).__module__.partition(".")[0] in {"sqlite3", "psycopg", "pymysql", "MySQLdb"}:
        message = first_line(driver)
        if any(phrase in message for phrase in _WRITE_ERRORS):
            return UsageError(f"{what}: a query that writes is refused ({message}); write one SELECT")
        return UsageError(f"{what}: the database refuses it: {message}; correct the SELECT")
    if isinstance(error, UsageError):
        return type(error)(f"{what}: {error}")
    return error


def same_database(engine: Engine, other: Engine) -> bool:
    """Return whether two engines address the same database, whatever their URLs."""
    if engine.dialect.name != other.dialect.name:
        return False
    if engine.dialect.name == "sqlite":
        files = [sqlite_file(engine.url) for engine in (engine, other)]
        first, second = (path and Path(path) for path in files)
        return bool(first and second and first.exists() and second.exists() and first.samefile(second))
    if engine.dialect.name == "postgresql":
        return _identify_postgres(engine) == _identify_postgres(other)
    addresses = [(engine.url.host, engine.url.port, engine.url.database) for engine in (engine, other)]
    return addresses[0] == addresses[1]


def _identify_postgres(engine: Engine) -> tuple[Any, ...]:
    with engine.connect() as connection:
        query = "SELECT CAST(pg_postmaster_start_time() AS TEXT), current_database()"
        return tuple(connection.exec_driver_sql(query).one())
