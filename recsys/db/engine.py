"""Connections: create an engine from a database URL, and stream the rows of a SELECT as frames.

In: a URL of SQLite, PostgreSQL, MySQL or MariaDB, SQL text. Out: an Engine that raises RecsysError subclasses, polars
frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import polars as pl
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, CursorResult, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from recsys.db.errors import first_line, to_recsys_error
from recsys.db.result_frames import rows_to_frame
from recsys.errors import ConfigError, NotFoundError, UsageError, suggestion
from recsys.execution import memory
from recsys.log import redact

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
}
SQLITE_BUSY_TIMEOUT_MS = 4000
"""How long SQLite waits for another writer, in milliseconds."""
_KEEPALIVE_SETTINGS = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""After a minute, a PostgreSQL server drops a client whose machine is gone, and releases its lease."""
LOCK_TIMEOUT_S = 30
"""How long PostgreSQL and MySQL wait for a lock of another transaction, in seconds."""
_MYSQL_MODE = "ANSI_QUOTES,PIPES_AS_CONCAT,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


def parse_url(url: str) -> URL:
    """Parse a database URL and choose the driver.

    Raises:
        ConfigError: it is not a URL, or the database is not supported.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"database URL {redact(url)!r} cannot be read; "
            "write sqlite:///shop.db, postgresql://user@host/name or mysql://user@host/name"
        ) from None
    driver = DRIVERS.get(address.drivername)
    if driver is None:
        raise ConfigError(
            f"database {address.drivername!r} is not supported{suggestion(address.drivername, DRIVERS)}; "
            "write sqlite:///shop.db, postgresql://user@host/name or mysql://user@host/name"
        )
    return address.set(drivername=driver)


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for an in-memory database and for other databases."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if not url.database.startswith("file:"):
        return Path(url.database)
    return Path(unquote(url.database.removeprefix("file:").removeprefix("//").partition("?")[0]))


def connect(url: str, *, read_only: bool = False) -> Engine:
    """Create an engine for `url` and check that it connects.

    Args:
        url: `sqlite:///path`, `postgresql://user:password@host/name` or `mysql://user:password@host/name`.
        read_only: refuse writes; a missing SQLite file is then an error instead of a new database.

    Raises:
        ConfigError: unknown database, or wrong user, password or database name.
        NotFoundError: the SQLite file to read does not exist.
        DatabaseUnavailableError: the server does not answer.
    """
    address = parse_url(url)
    display_url = redact(address.render_as_string(hide_password=True))
    create = {"sqlite": _create_sqlite_engine, "postgresql": _create_postgres_engine, "mysql": _create_mysql_engine}[
        address.get_backend_name()
    ]
    engine = create(address, read_only)

    @event.listens_for(engine, "handle_error")
    def _translate_error(context: ExceptionContext) -> None:
        if (context.statement or "").startswith("DESCRIBE "):
            return  # SQLAlchemy checks with it whether a MySQL table exists; a failure is a normal answer
        error = to_recsys_error(context.original_exception, display_url)
        if error is not None:
            raise error from context.original_exception

    try:
        with engine.connect():
            pass
    except BaseException:
        engine.dispose()
        raise
    return engine


def _create_sqlite_engine(address: URL, read_only: bool) -> Engine:
    file = sqlite_file(address)
    if read_only and file is not None:
        if not file.is_file():
            raise NotFoundError(f"database {file} does not exist; check the path, or run `recsys init`")
        # the file is opened read-only; query_only below also covers attached databases
        address = address.set(database=f"file://{quote(str(file.absolute()))}").update_query_dict(
            {"mode": "ro", "uri": "true"}
        )
    pool: dict[str, Any] = {"poolclass": sa.StaticPool} if file is None else {}
    engine = sa.create_engine(
        address, hide_parameters=True, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000}, **pool
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # The driver would begin transactions implicitly, but not for DDL or SELECT; `_begin` begins them instead.
        connection.isolation_level = None
        pragmas = [
            "foreign_keys = ON",
            f"busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}",
            "synchronous = NORMAL",
            "cache_size = -65536",
        ]
        if read_only:
            pragmas.append("query_only = ON")
        elif file is not None:
            pragmas.append("journal_mode = WAL")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the write lock at once: a transaction that starts as a reader cannot always become a writer.
        # Streams only read, and a read-only connection cannot take the lock.
        reads = read_only or connection.get_execution_options().get("stream_results", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _create_postgres_engine(address: URL, read_only: bool) -> Engine:
    defaults = {"connect_timeout": "5", "application_name": "recsys"}
    arguments = {name: value for name, value in defaults.items() if name not in address.query}
    engine = sa.create_engine(
        address,
        hide_parameters=True,
        connect_args=arguments,
        pool_pre_ping=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        for setting, value in _KEEPALIVE_SETTINGS.items():
            connection.execute(f"SET {setting} = {value}")
        connection.commit()
        connection.read_only = read_only or None  # None: the default of the database

    return engine


def _create_mysql_engine(address: URL, read_only: bool) -> Engine:
    # The session lasts as long as its lease, however long it is idle. Queries on a source database, which use
    # read-only connections, keep the server's SQL mode: it decides what their quotation marks mean.
    settings = ["time_zone = '+00:00'", "wait_timeout = 31536000", f"innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}"]
    if not read_only:
        settings.append(f"sql_mode = '{_MYSQL_MODE}'")
    engine = sa.create_engine(
        address,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": 5,
            "init_command": "SET " + ", ".join(f"SESSION {setting}" for setting in settings),
        },
        pool_pre_ping=True,
    )

    if read_only:

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")

    return engine


def stream(
    engine: Engine, query: str, *, batch: int = 50_000, params: Mapping[str, Any] | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the rows of one SELECT in frames of at most `batch` rows; an empty result is one empty frame.

    Memory holds one batch: PostgreSQL reads through a server-side cursor, SQLite steps. Column types follow the values
    of each batch: numeric ids and whole decimals become int64, other decimals float64, JSON becomes text, a column of
    only NULL has the type Null, and a column of mixed types becomes text.

    Args:
        engine: from `connect`.
        query: one SELECT; `:name` is a parameter only if `params` is given.
        batch: rows of a frame.
        params: parameter values by name.

    Raises:
        UsageError: the database refuses the query.
    """
    with engine.connect() as connection:
        yield from stream_on(connection, query, batch=batch, params=params)


def stream_on(
    connection: Connection,
    query: str,
    *,
    batch: int = 50_000,
    params: Mapping[str, Any] | None = None,
    exact_columns: Collection[str] = (),
) -> Iterator[pl.DataFrame]:
    """Like `stream`, on an open connection whose transaction continues afterwards.

    Args:
        connection: an open connection.
        query: as for `stream`.
        batch: as for `stream`.
        params: as for `stream`.
        exact_columns: columns that are converted to text digit by digit, the same way in every batch.

    Raises:
        UsageError: the database refuses the query.
    """
    reader = connection.execution_options(stream_results=True, max_row_buffer=batch)
    result = _execute_query(reader, query, params)
    if not result.returns_rows:
        raise UsageError(f"query returns no rows; write a SELECT: {query.strip()[:80]}")
    names = [str(name) for name in result.keys()]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        result.close()
        raise UsageError(f"query names the column {duplicates[0]!r} twice; give each column its own name with AS")
    is_first = True
    try:
        while True:
            # Not from the driver's cursor: SQLAlchemy has already read ahead from it.
            with memory.pause_gc():
                rows = result.fetchmany(batch)
                count = len(rows)
                batch_frame = rows_to_frame(names, rows, exact_columns) if count or is_first else None
                del rows
            if batch_frame is not None:
                yield batch_frame
            if count < batch:
                break
            is_first, batch_frame = False, None
    except Exception as error:
        display_url = redact(connection.engine.url.render_as_string(hide_password=True))
        raise (to_recsys_error(error, display_url) or error) from error
    finally:
        result.close()


def read_frame(engine: Engine, query: str, *, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Read all rows of a SELECT into one frame; see `stream`."""
    return pl.concat(list(stream(engine, query, params=params)), how="vertical_relaxed")


def fetch_rows(engine: Engine, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Return all rows of a small SELECT as tuples.

    Raises:
        UsageError: the database refuses the query.
    """
    with engine.connect() as connection:
        reader = connection.execution_options(stream_results=True)  # begins as a reader, so it never waits for a writer
        return [tuple(row) for row in _execute_query(reader, query, params)]


def _execute_query(connection: Connection, query: str, params: Mapping[str, Any] | None) -> CursorResult[Any]:
    try:
        if params:
            return connection.execute(sa.text(query), dict(params))
        # Without parameters the text is passed to the driver unchanged: % and : are literal.
        return connection.execution_options(no_parameters=True).exec_driver_sql(query)
    except DBAPIError as error:
        raise UsageError(f"the database refuses the query: {first_line(error.orig or error)}") from error
