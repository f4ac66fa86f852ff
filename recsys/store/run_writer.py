"""Write one run: shards with their ledger rows, then the state `ready`. Created by `Store.begin_run`.

In: frames without a run id. Out: rows under this run's id, which consumers do not read before the run is published.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from recsys.data.schema import DEFAULT_USER
from recsys.db.dialects import Dialect
from recsys.errors import RecsysError, TemporaryError
from recsys.execution.failpoints import failpoint
from recsys.store import tables
from recsys.store.carried_lists import CarriedOverLists
from recsys.store.run_ledger import TABLES_BY_KIND, frame_checksum, written_shards


class RunWriter:
    """Writes the rows of a run.

    Use it in a `with` block: an error keeps the run resumable and records the reason.

    Attributes:
        engine: database the rows are written to.
        run_id: sortable text from the database's clock.
        kind: "recommend", "cluster" or "similar".
        placement: name under which consumers read the run.
        finished_shards: ids of the shards in the ledger; they are not written again.
        writer: process that may write the run, as recorded in the run's row.
    """

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        run_id: str,
        *,
        kind: str,
        placement: str,
        finished_shards: set[int],
        writer: str,
    ) -> None:
        self.engine = engine
        self._dialect = dialect
        self.run_id = run_id
        self.kind = kind
        self.placement = placement
        self.finished_shards = finished_shards
        self.writer = writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            return
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        try:
            with self.engine.begin() as connection:
                still_writing = (tables.runs.c.state == "building", tables.runs.c.host == self.writer)
                connection.execute(
                    sa.update(tables.runs).where(self._is_this_run, *still_writing).values(reason=reason)
                )
        except RecsysError as ledger_error:  # report the first error; the run can be resumed without the reason
            error.add_note(f"and the reason could not be written to the run ledger: {ledger_error}")

    @property
    def _is_this_run(self) -> sa.ColumnElement[bool]:
        return tables.runs.c.run_id == self.run_id

    def _lock_run_row(self, connection: Connection) -> None:
        """Lock the run's row until the transaction ends, and check that this process still owns the run.

        The lease keeps other writers away as long as its connection lives. This check also stops a writer that has
        lost its lease.
        """
        query = sa.select(tables.runs.c.state, tables.runs.c.host).where(self._is_this_run).with_for_update()
        row = connection.execute(query).first()
        if row is None or tuple(row) != ("building", self.writer):
            status = "was deleted" if row is None else f"is {row.state}, last written by {row.host}"
            raise RecsysError(f"run {self.run_id} takes no rows from this process: it {status}; run the command again")

    def write_shard(
        self, shard_id: int, frame: pl.DataFrame, *, n_users: int, carried_over: CarriedOverLists | None = None
    ) -> bool:
        """Write a shard's rows and its ledger row in one transaction.

        Args:
            shard_id: number of the shard.
            frame: rows of the first table of this kind of run, without run_id and placement.
            n_users: users in the shard.
            carried_over: unchanged lists of an earlier run that belong to the shard; they are copied inside the
                database.

        Returns:
            Whether rows were written; False when the ledger already has the shard.
        """
        if shard_id in self.finished_shards:
            return False
        table, frame = TABLES_BY_KIND[self.kind][0], _nan_to_null(frame)
        ledger_row = {
            "run_id": self.run_id,
            "shard_id": shard_id,
            "n_users": n_users,
            "n_rows": frame.height,
            "checksum": frame_checksum(frame),
        }
        with self.engine.begin() as connection:
            self._lock_run_row(connection)
            self._dialect.allow_async_commit(connection)
            # the ledger row comes first: a second writer of the shard fails on it before it can write any rows
            if not self._dialect.insert_new(connection, tables.run_shards, ledger_row):
                self.finished_shards.add(shard_id)
                return False
            failpoint("store.shard.rows.before")
            if carried_over is not None and carried_over.users:
                storage = self._dialect.run_storage(table, self.run_id)
                copied = carried_over.copy_to(connection, storage, self.run_id, placement=self.placement)
                this_shard = (tables.run_shards.c.run_id == self.run_id, tables.run_shards.c.shard_id == shard_id)
                connection.execute(sa.update(tables.run_shards).where(*this_shard).values(n_rows=frame.height + copied))
            self._bulk_load(connection, table, frame)
            failpoint("store.shard.commit.before")
        failpoint("store.shard.commit.after")
        self.finished_shards.add(shard_id)
        return True

    def write_table(self, name: str, frame: pl.DataFrame) -> None:
        """Write all rows of this run in one table, replacing the rows of an earlier attempt."""
        table = tables.metadata.tables[name]
        with self.engine.begin() as connection:
            self._lock_run_row(connection)
            storage = self._dialect.run_storage(table, self.run_id)
            connection.execute(sa.delete(storage).where(storage.c.run_id == self.run_id))
            self._bulk_load(connection, table, _nan_to_null(frame))
            failpoint("store.table.commit.before")
        failpoint("store.table.commit.after")

    def _bulk_load(self, connection: Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """Insert rows into the storage of this unfinished run, with the run's constant columns."""
        constants = {"run_id": self.run_id} | ({"placement": self.placement} if "placement" in table.c else {})
        self._dialect.bulk_load(connection, self._dialect.run_storage(table, self.run_id), frame, constants=constants)

    def has_rows(self) -> bool:
        """Return whether any user has a row, the default list excluded; also valid before the run is finished."""
        storage = self._dialect.run_storage(tables.recommendations_all, self.run_id)
        user_rows = (storage.c.run_id == self.run_id, storage.c.user_id != DEFAULT_USER)
        with self._dialect.snapshot(self.engine) as connection:
            return connection.execute(sa.select(storage.c.user_id).where(*user_rows).limit(1)).first() is not None

    def finish(self, counts: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None) -> None:
        """Mark the run as ready to publish: all of its rows are written.

        Raises:
            RecsysError: two rows have the same key, or another process has taken the run over.
            TemporaryError: the database lost shards that it had committed, in a crash of its own.
        """
        with self.engine.begin() as connection:
            self._lock_run_row(connection)
            lost_shards = self.finished_shards - written_shards(connection, self.run_id)
            if lost_shards:
                raise TemporaryError(
                    f"the database lost {len(lost_shards)} shards of run {self.run_id}; "
                    "run the same command again to resume"
                )
            for table in TABLES_BY_KIND[self.kind]:
                self._dialect.attach_run_storage(connection, table, self.run_id)
            connection.execute(
                sa.update(tables.runs)
                .where(self._is_this_run)
                .values(
                    state="ready",
                    counts=counts or {},
                    metrics=metrics or {},
                    reason=None,
                    finished_at=self._dialect.now(connection),
                )
            )
            failpoint("store.finish.commit.before")
        failpoint("store.finish.commit.after")


def _nan_to_null(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace NaN by NULL: SQLite would do so on its own, PostgreSQL would not."""
    float_columns = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return frame.with_columns(pl.col(float_columns).fill_nan(None))
