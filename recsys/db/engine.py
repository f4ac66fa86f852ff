"""Connections: from a database URL to an engine, and from a SELECT to frames in a stream.

In: a URL of SQLite, PostgreSQL, MySQL or MariaDB, SQL text. Out: an Engine whose errors are the house's, polars frames.
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
from recsys.db.result_frames import frame
from recsys.errors import ConfigError, NotFoundError, UsageError, suggestion
from recsys.execution import memory
from recsys.log import redact

SCHEMES = {
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
BUSY_MS = 4000
"""How long SQLite waits for another writer before it gives up."""
_ALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""After a minute a PostgreSQL server gives up a client whose machine is gone, and with it the lease it held."""
LOCK_SECONDS = 30
"""How long PostgreSQL and MySQL wait for a lock of another transaction before they give up."""
_MODE = "ANSI_QUOTES,PIPES_AS_CONCAT,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


def parse_url(url: str) -> URL:
    """Read a database URL and choose the driver.

    Raises:
        ConfigError: it is no URL, or of a database that is not supported.
    """
    try:
        found = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"database URL {redact(url)!r} cannot be read; "
            "write sqlite:///shop.db, postgresql://user@host/name or mysql://user@host/name"
        ) from None
    driver = SCHEMES.get(found.drivername)
    if driver is None:
        raise ConfigError(
            f"database {found.drivername!r} is not supported{suggestion(found.drivername, SCHEMES)}; "
            "write sqlite:///shop.db, postgresql://user@host/name or mysql://user@host/name"
        )
    return found.set(drivername=driver)


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for a database in memory and for other databases."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if not url.database.startswith("file:"):
        return Path(url.database)
    return Path(unquote(url.database.removeprefix("file:").removeprefix("//").partition("?")[0]))


def connect(url: str, *, read_only: bool = False) -> Engine:
    """Return an engine for `url` after one successful connection.

    Args:
        url: `sqlite:///path`, `postgresql://user:password@host/name` or `mysql://user:password@host/name`.
        read_only: refuse writes; a missing SQLite file is then an error instead of a new database.

    Raises:
        ConfigError: unknown database, or wrong user, password or database name.
        NotFoundError: the SQLite file to read does not exist.
        DatabaseUnavailableError: the server does not answer.
    """
    address = parse_url(url)
    shown = redact(address.render_as_string(hide_password=True))
    made = {"sqlite": _sqlite, "postgresql": _postgres, "mysql": _mysql}[address.get_backend_name()]
    engine = made(address, read_only)

    @event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        if (context.statement or "").startswith("DESCRIBE "):
            return  # so SQLAlchemy asks MySQL whether a table is there, and the answer may be no
        error = to_recsys_error(context.original_exception, shown)
        if error is not None:
            raise error from context.original_exception

    try:
        with engine.connect():
            pass
    except BaseException:
        engine.dispose()
        raise
    return engine


def _sqlite(address: URL, read_only: bool) -> Engine:
    file = sqlite_file(address)
    if read_only and file is not None:
        if not file.is_file():
            raise NotFoundError(f"database {file} does not exist; check the path, or run `recsys init`")
        # the file is opened for reading; query_only below also holds for what is attached to it
        address = address.set(database=f"file://{quote(str(file.absolute()))}").update_query_dict(
            {"mode": "ro", "uri": "true"}
        )
    pool: dict[str, Any] = {"poolclass": sa.StaticPool} if file is None else {}
    engine = sa.create_engine(address, hide_parameters=True, connect_args={"timeout": BUSY_MS / 1000}, **pool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # The driver would open transactions by its own rules (not for DDL, not for SELECT); `_begin` opens them.
        connection.isolation_level = None
        pragmas = ["foreign_keys = ON", f"busy_timeout = {BUSY_MS}", "synchronous = NORMAL", "cache_size = -65536"]
        if read_only:
            pragmas.append("query_only = ON")
        elif file is not None:
            pragmas.append("journal_mode = WAL")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the write lock at once: a transaction that starts as a reader cannot always become one.
        # Streams only read, and a read-only connection cannot take the lock.
        reads = read_only or connection.get_execution_options().get("stream_results", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgres(address: URL, read_only: bool) -> Engine:
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
        connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        for setting, value in _ALIVE.items():
            connection.execute(f"SET {setting} = {value}")
        connection.commit()
        connection.read_only = read_only or None  # None: as the database itself says

    return engine


def _mysql(address: URL, read_only: bool) -> Engine:
    # The session stays as long as its lease, however long nothing is said on it. A shop's own queries, which come on
    # connections that only read, keep the server's mode: it decides what their quotation marks mean.
    settings = ["time_zone = '+00:00'", "wait_timeout = 31536000", f"innodb_lock_wait_timeout = {LOCK_SECONDS}"]
    if not read_only:
        settings.append(f"sql_mode = '{_MODE}'")
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
    """Yield the rows of one SELECT in frames of at most `batch` rows; an empty result is one frame without rows.

    Memory holds one batch: PostgreSQL reads through a server-side cursor, SQLite steps. Column types follow the
    values of each batch: numeric ids and whole decimals become int64, other decimals float64, JSON becomes text, a
    column of only NULL has the type Null, and a column of several kinds becomes text.

    Args:
        engine: from `connect`.
        query: one SELECT; `:name` stands for a parameter only when `params` is given.
        batch: rows of a frame.
        params: values by name.

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
    exact: Collection[str] = (),
) -> Iterator[pl.DataFrame]:
    """As `stream`, on a connection whose transaction goes on afterwards.

    Args:
        connection: an open connection.
        query: as for `stream`.
        batch: as for `stream`.
        params: as for `stream`.
        exact: columns that become text digit by digit, the same in every batch whatever else stands in the column.

    Raises:
        UsageError: the database refuses the query.
    """
    reader = connection.execution_options(stream_results=True, max_row_buffer=batch)
    result = _executed(reader, query, params)
    if not result.returns_rows:
        raise UsageError(f"query gives no rows, write a SELECT: {query.strip()[:80]}")
    names = [str(name) for name in result.keys()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        result.close()
        raise UsageError(f"query names the column {twice[0]!r} twice; give each column a name of its own with AS")
    first = True
    try:
        while True:
            # Not the driver's cursor: SQLAlchemy has read ahead from it already.
            with memory.gc_paused():
                rows = result.fetchmany(batch)
                count = len(rows)
                made = frame(names, rows, exact) if count or first else None
                del rows
            if made is not None:
                yield made
            if count < batch:
                break
            first, made = False, None
    except Exception as error:
        shown = redact(connection.engine.url.render_as_string(hide_password=True))
        raise (to_recsys_error(error, shown) or error) from error
    finally:
        result.close()


def read(engine: Engine, query: str, *, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Read a whole SELECT into one frame; see `stream`."""
    return pl.concat(list(stream(engine, query, params=params)), how="vertical_relaxed")


def rows(engine: Engine, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Return all rows of a small SELECT as tuples.

    Raises:
        UsageError: the database refuses the query.
    """
    with engine.connect() as connection:
        reader = connection.execution_options(stream_results=True)  # begins as a reader, never waits for a writer
        return [tuple(row) for row in _executed(reader, query, params)]


def _executed(connection: Connection, query: str, params: Mapping[str, Any] | None) -> CursorResult[Any]:
    try:
        if params:
            return connection.execute(sa.text(query), dict(params))
        # Without parameters the text goes to the driver as it stands: % and : in it mean themselves.
        return connection.execution_options(no_parameters=True).exec_driver_sql(query)
    except DBAPIError as error:
        raise UsageError(f"the database refuses the query: {first_line(error.orig or error)}") from error
