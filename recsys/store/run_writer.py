"""One write of lists: shards with their ledger lines, then ready, then published. Made by `Store.begin`.

In: frames without run id. Out: rows under this run's id, which nobody reads before the pointer moves.
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
from recsys.store.run_ledger import TABLES_BY_KIND, checksum, written_shards


class RunWriter:
    """A run that is being written. In a `with` block: leaving it early keeps it resumable and notes why.

    Attributes:
        engine: where the rows go.
        run_id: sortable text from the database's clock.
        kind: "recommend", "cluster" or "similar".
        placement: under which name consumers will read it.
        done: shards in the ledger; write no others.
        writer: who may write it, as noted in the run's row.
    """

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        run_id: str,
        *,
        kind: str,
        placement: str,
        done: set[int],
        writer: str,
    ) -> None:
        self.engine = engine
        self._dialect = dialect
        self.run_id = run_id
        self.kind = kind
        self.placement = placement
        self.done = done
        self.writer = writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            return
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        try:
            with self.engine.begin() as connection:
                ours = (tables.runs.c.state == "building", tables.runs.c.host == self.writer)
                connection.execute(sa.update(tables.runs).where(self._mine, *ours).values(reason=reason))
        except RecsysError as trouble:  # the first error is the one to tell; the run resumes without the note
            error.add_note(f"and the reason could not be noted in the run ledger: {trouble}")

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        return tables.runs.c.run_id == self.run_id

    def _still_ours(self, connection: Connection) -> None:
        """Lock the run's row for the rest of the transaction, and see that nobody took the run over.

        The lease keeps other writers away as long as its connection lives. This also stops a writer that lost it.
        """
        query = sa.select(tables.runs.c.state, tables.runs.c.host).where(self._mine).with_for_update()
        found = connection.execute(query).first()
        if found is None or tuple(found) != ("building", self.writer):
            now = "is gone" if found is None else f"is {found.state}, last written by {found.host}"
            raise RecsysError(f"run {self.run_id} takes no rows from this process any more: it {now}; run it again")

    def write_shard(
        self, shard_id: int, frame: pl.DataFrame, *, n_users: int, kept: CarriedOverLists | None = None
    ) -> bool:
        """Write a shard's rows and its ledger line in one transaction.

        Args:
            shard_id: number of the shard.
            frame: rows of the kind's first table, without run_id and placement.
            n_users: users in the shard.
            kept: lists of an earlier run that belong to the shard as they are; they are copied inside the database.

        Returns:
            Whether rows were written; False when the ledger has the shard already.
        """
        if shard_id in self.done:
            return False
        table, frame = TABLES_BY_KIND[self.kind][0], _without_nan(frame)
        line = {
            "run_id": self.run_id,
            "shard_id": shard_id,
            "n_users": n_users,
            "n_rows": frame.height,
            "checksum": checksum(frame),
        }
        with self.engine.begin() as connection:
            self._still_ours(connection)
            self._dialect.without_timeout(connection)
            # the ledger line comes first: a second writer of the shard stops at it before it can write a row
            if not self._dialect.insert_new(connection, tables.run_shards, line):
                self.done.add(shard_id)
                return False
            failpoint("store.shard.rows.before")
            if kept is not None and kept.users:
                place = self._dialect.run_storage(table, self.run_id)
                copied = kept.copy(connection, place, self.run_id, placement=self.placement)
                at = (tables.run_shards.c.run_id == self.run_id, tables.run_shards.c.shard_id == shard_id)
                connection.execute(sa.update(tables.run_shards).where(*at).values(n_rows=frame.height + copied))
            self._load(connection, table, frame)
            failpoint("store.shard.commit.before")
        failpoint("store.shard.commit.after")
        self.done.add(shard_id)
        return True

    def write_table(self, name: str, frame: pl.DataFrame) -> None:
        """Write all of this run's rows of one table, replacing what an earlier try left."""
        table = tables.metadata.tables[name]
        with self.engine.begin() as connection:
            self._still_ours(connection)
            place = self._dialect.run_storage(table, self.run_id)
            connection.execute(sa.delete(place).where(place.c.run_id == self.run_id))
            self._load(connection, table, _without_nan(frame))
            failpoint("store.table.commit.before")
        failpoint("store.table.commit.after")

    def _load(self, connection: Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """Write rows of `table` where this run's rows lie until it is finished, with the run's own columns."""
        same = {"run_id": self.run_id} | ({"placement": self.placement} if "placement" in table.c else {})
        self._dialect.bulk_load(connection, self._dialect.run_storage(table, self.run_id), frame, same=same)

    def has_rows(self) -> bool:
        """Whether a user has a row, the list for users without history aside; told before the run is finished too."""
        place = self._dialect.run_storage(tables.recommendations_all, self.run_id)
        ours = (place.c.run_id == self.run_id, place.c.user_id != DEFAULT_USER)
        with self._dialect.snapshot(self.engine) as connection:
            return connection.execute(sa.select(place.c.user_id).where(*ours).limit(1)).first() is not None

    def finish(self, counts: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None) -> None:
        """Note that all rows are written: the run is ready to be published.

        Raises:
            RecsysError: two rows have the same key, or the run was taken over.
            TemporaryError: the database lost shards that it had taken, in a crash of its own.
        """
        with self.engine.begin() as connection:
            self._still_ours(connection)
            lost = self.done - written_shards(connection, self.run_id)
            if lost:
                raise TemporaryError(
                    f"the database lost {len(lost)} shards of run {self.run_id}; the same command goes on"
                )
            for table in TABLES_BY_KIND[self.kind]:
                self._dialect.attach_run_storage(connection, table, self.run_id)
            connection.execute(
                sa.update(tables.runs)
                .where(self._mine)
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


def _without_nan(frame: pl.DataFrame) -> pl.DataFrame:
    """NaN becomes NULL, because SQLite would do so and PostgreSQL would not."""
    floats = [name for name, kind in frame.schema.items() if kind.is_float()]
    return frame.with_columns(pl.col(floats).fill_nan(None))
