"""What differs between databases: bulk loads, upserts, the clock, and the lease of a store.

In: a connection inside a transaction, a frame whose columns are columns of the table. Out: rows in the table.
A new database is one class here.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from recsys.db.engine import explained
from recsys.db.lease import taken
from recsys.errors import DatabaseUnavailableError, LeaseHeldError

log = logging.getLogger(__name__)

_LEASE_KEY = 0x7265_6373_7973  # "recsys": one advisory lock a PostgreSQL database


class Dialect(Protocol):
    """One database's way of doing what SQL leaves open."""

    def bulk_load(self, connection: Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """Insert all rows of `frame`, sorted by the table's key, inside the connection's transaction."""
        ...

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        """Insert, or replace the row with the same key; of several rows of one key in the frame the last wins.

        Column `only_if_changed` (a stamp such as updated_at) moves only when column `mark` (a hash) differs.
        """
        ...

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert one row unless its key is there; say whether it was inserted."""
        ...

    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Any:
        """Context manager: hold the store alone; raises LeaseHeldError at once when another process does.

        With `shared`, hold it together with others that share: see `lease.together`.
        """
        ...

    def snapshot(self, engine: Engine) -> Connection:
        """A connection whose statements all read the same state, that of the first of them."""
        ...

    def now(self, connection: Connection) -> datetime:
        """The database's clock, UTC."""
        ...


def of(engine: Engine) -> Dialect:
    """The dialect of an engine."""
    return Postgres() if engine.dialect.name == "postgresql" else Sqlite()


def sql_times(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Turn UTC seconds (Int64) into the text every database reads as a UTC timestamp."""
    return frame.with_columns(
        pl.from_epoch(pl.col(name), time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S.000000")
        for name in columns
        if name in frame.columns and frame.schema[name].is_integer()
    )


def _upsert_sql(table: sa.Table, columns: Sequence[str], values: str, only_if_changed: Sequence[str], mark: str) -> str:
    key = [column.name for column in table.primary_key]
    sets = []
    for name in columns:
        if name in key:
            continue
        if name in only_if_changed:
            sets.append(
                f'"{name}" = CASE WHEN "{table.name}"."{mark}" IS DISTINCT FROM excluded."{mark}" '
                f'THEN excluded."{name}" ELSE "{table.name}"."{name}" END'
            )
        else:
            sets.append(f'"{name}" = excluded."{name}"')
    action = "UPDATE SET " + ", ".join(sets) if sets else "NOTHING"
    names = ", ".join(f'"{name}"' for name in columns)
    keys = ", ".join(f'"{name}"' for name in key)
    return f'INSERT INTO "{table.name}" ({names}) {values} ON CONFLICT ({keys}) DO {action}'  # noqa: S608 - names are our own tables


def _sorted(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Key order, where rows of one key keep theirs: SQLite inserts three times slower out of it."""
    key = [column.name for column in table.primary_key if column.name in frame.columns]
    return frame.sort(key, maintain_order=True) if key else frame


def _distinct(table: sa.Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The last row of each key, in key order: PostgreSQL refuses to replace one row twice in one statement."""
    key = [column.name for column in table.primary_key]
    return _sorted(table, frame.unique(key, keep="last", maintain_order=True))


class Sqlite:
    """SQLite: sorted executemany inside one transaction; the lease is a lock on a file beside the database."""

    def bulk_load(self, connection: Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See Dialect."""
        names = ", ".join(f'"{name}"' for name in frame.columns)
        marks = ", ".join("?" * frame.width)
        self._many(connection, f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', _sorted(table, frame))  # noqa: S608

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        """See Dialect."""
        values = f"VALUES ({', '.join('?' * frame.width)})"
        self._many(
            connection, _upsert_sql(table, frame.columns, values, only_if_changed, mark), _distinct(table, frame)
        )

    @staticmethod
    def _many(connection: Connection, statement: str, frame: pl.DataFrame) -> None:
        if frame.height:
            connection.exec_driver_sql(statement, frame.rows())

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        statement = sqlite.insert(table).values(row).on_conflict_do_nothing()
        return connection.execute(statement).rowcount == 1

    @contextmanager
    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect. The system frees the lock when its holder dies, however it dies.

        The file `<database>.lease` stays: whoever deleted it would let two processes lock two files of one name.
        """
        name = engine.url.database
        if not name or name == ":memory:":
            yield
            return
        path = Path(name).with_name(Path(name).name + ".lease")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not taken(lambda how: _flocked(handle, how), shared):
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
                raise LeaseHeldError(f"{holder} is working on {path.with_suffix('').name}; try again when it is done")
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(handle)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect. Every transaction of SQLite reads one state; one that streams waits for no writer."""
        return engine.connect().execution_options(stream_results=True)

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        text = connection.execute(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def _flocked(handle: int, how: str) -> bool:
    """Lock a file alone, or together with others; a lock this handle has is exchanged."""
    try:
        fcntl.flock(handle, {"alone": fcntl.LOCK_EX, "together": fcntl.LOCK_SH}[how] | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Postgres:
    """PostgreSQL: COPY, and an advisory lock that ends with its session."""

    def bulk_load(self, connection: Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See Dialect."""
        self._copy(connection, table.name, _sorted(table, frame))

    def upsert(
        self,
        connection: Connection,
        table: sa.Table,
        frame: pl.DataFrame,
        *,
        only_if_changed: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        """See Dialect. COPY into a temporary table of the same shape, then one INSERT ... ON CONFLICT."""
        if not frame.height:
            return
        staging = f"incoming_{table.name}"
        connection.exec_driver_sql(
            f'CREATE TEMP TABLE "{staging}" (LIKE "{table.name}" INCLUDING DEFAULTS) ON COMMIT DROP'
        )
        self._copy(connection, staging, _distinct(table, frame))
        names = ", ".join(f'"{name}"' for name in frame.columns)
        values = f'SELECT {names} FROM "{staging}"'  # noqa: S608
        connection.exec_driver_sql(_upsert_sql(table, frame.columns, values, only_if_changed, mark))
        connection.exec_driver_sql(f'DROP TABLE "{staging}"')

    @staticmethod
    def _copy(connection: Connection, name: str, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        columns = ", ".join(f'"{column}"' for column in frame.columns)
        cursor = connection.connection.cursor()
        try:
            with cursor.copy(f'COPY "{name}" ({columns}) FROM STDIN') as copy:
                for row in frame.iter_rows(buffer_size=10_000):
                    copy.write_row(row)
        except Exception as error:
            replacement = explained(error)
            if replacement is not None:
                raise replacement from error
            raise
        finally:
            cursor.close()

    def insert_new(self, connection: Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """See Dialect."""
        # rowcount is not filled in for an INSERT by this driver: what was returned tells
        statement = postgresql.insert(table).values(row).on_conflict_do_nothing().returning(sa.literal(1))
        return connection.execute(statement).first() is not None

    @contextmanager
    def lease(self, engine: Engine, *, shared: Callable[[], None] | None = None) -> Iterator[None]:
        """See Dialect."""
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def ask(how: str) -> bool:
                call = {"alone": "pg_try_advisory_lock", "together": "pg_try_advisory_lock_shared"}[how]
                return bool(connection.execute(sa.text(f"SELECT {call}(:key)"), {"key": _LEASE_KEY}).scalar_one())

            held = taken(ask, shared)
            if held == "both":  # PostgreSQL counts the two apart; without the first, others may join
                self._release(connection)
            if not held:
                raise LeaseHeldError("another process is working on this database's store; try again when it is done")
            try:
                yield
            finally:
                self._release(connection, "" if shared is None else "_shared")

    @staticmethod
    def _release(connection: Connection, how: str = "") -> None:
        try:
            connection.execute(sa.text(f"SELECT pg_advisory_unlock{how}(:key)"), {"key": _LEASE_KEY})
        except DatabaseUnavailableError as error:  # the lock went with its session: nothing is left to give back
            log.warning("the lease ended before the work did: %s", error)

    def snapshot(self, engine: Engine) -> Connection:
        """See Dialect."""
        return engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ")

    def now(self, connection: Connection) -> datetime:
        """See Dialect."""
        value: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        return value.astimezone(UTC)
