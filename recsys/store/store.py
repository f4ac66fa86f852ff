"""The store: runs are begun or resumed here, published by moving a pointer, rolled back, pruned, and read.

In: a database URL. Out: `Store`; a `RunWriter` to write; frames of what consumers read.
"""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from recsys._version import __version__
from recsys.config import PublishSettings
from recsys.db import dialects
from recsys.db import schema_version as version
from recsys.db.engine import connect
from recsys.db.retry import retry_transaction
from recsys.execution.failpoints import failpoint
from recsys.store import embeddings, tables
from recsys.store import publication as pointer
from recsys.store import recommendations as lists
from recsys.store import retention as prune
from recsys.store.run_ledger import (
    TABLES_BY_KIND,
    Manifest,
    new_run_id,
    refuse_foreign_run,
    release_unfinished_runs,
    written_shards,
)
from recsys.store.run_writer import RunWriter
from recsys.types import FloatArray

RUN_COLUMNS = (
    "run_id",
    "kind",
    "placement",
    "state",
    "model_version",
    "started_at",
    "finished_at",
    "published_at",
    "reason",
)
"""What `Store.runs` tells of each run."""


class Store:
    """A shop's database as recsys uses it.

    Attributes:
        engine: SQLAlchemy engine.
        dialect: what is done differently in this database.
    """

    def __init__(self, engine: Engine, held: ExitStack) -> None:
        self.engine = engine
        self.dialect = dialects.dialect_for(engine)
        self._held = held

    @staticmethod
    def open(url: str, *, lease: bool = True, shared: bool = False) -> Store:
        """Connect; with `lease`, be the only writer until `close`; with `shared`, one of the parts of a run.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            LeaseHeldError: another process writes to this store.
            RecsysError: a newer recsys has made it.
        """
        engine = connect(url)
        held = ExitStack()
        held.callback(engine.dispose)
        try:
            version.refuse_newer(engine)
            if lease or shared:
                alone = partial(release_unfinished_runs, engine) if shared else None
                held.enter_context(dialects.dialect_for(engine).lease(engine, shared=alone))
        except BaseException:
            held.close()
            raise
        return Store(engine, held)

    def close(self) -> None:
        """Give the lease and the connections back."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def init(self) -> str:
        """Make or upgrade tables and views; return the schema's version."""
        from recsys.db import migrate  # Alembic takes longer to import than most commands to run

        return migrate.upgrade(self.engine)

    def begin_run(
        self, kind: str, manifest: Manifest, *, placement: str = "default", resume: bool = True, part: str = ""
    ) -> RunWriter:
        """Go on with the unfinished run of the same manifest, or start a new one.

        The caller holds the store's lease, so any other unfinished run of the placement has lost its writer: it is
        marked failed and its rows go. With `part`, the name under which several processes write one run, the lease is
        shared: see `store.parts`.
        """
        runs, writer = tables.runs, part or f"{platform.node()}:{os.getpid()}"
        given_up: list[str] = []
        with self.engine.begin() as connection:
            unfinished = sa.select(runs).where(runs.c.state == "building", runs.c.placement == placement)
            # Every write locks the run's row first: this waits until a killed writer's last commit has landed or has
            # been undone, so that neither the ledger read here nor the rows deleted here can change afterwards.
            for old in connection.execute(unfinished.with_for_update()).mappings().all():
                same = old["kind"] == kind and manifest == Manifest.from_row(old)
                if part:
                    refuse_foreign_run(old, part, same=same)
                if resume and same:
                    connection.execute(sa.update(runs).where(runs.c.run_id == old["run_id"]).values(host=writer))
                    done = written_shards(connection, old["run_id"])
                    self._make_places(connection, kind, old["run_id"])
                    return RunWriter(
                        self.engine,
                        self.dialect,
                        old["run_id"],
                        kind=kind,
                        placement=placement,
                        done=done,
                        writer=writer,
                    )
                reason = "given up: a run with other models, data or settings began"
                prune.mark_failed(connection, old["run_id"], reason=reason)
                given_up.append(old["run_id"])
            newest = connection.execute(sa.select(sa.func.max(runs.c.run_id))).scalar_one()
            now = self.dialect.now(connection)
            run_id = new_run_id(now, newest)
            connection.execute(
                sa.insert(runs).values(
                    run_id=run_id,
                    kind=kind,
                    placement=placement,
                    state="building",
                    model_version=manifest.model_version,
                    data_fingerprint=manifest.data_fingerprint,
                    config_hash=manifest.config_hash,
                    extra=manifest.extra,
                    started_at=now,
                    host=writer,
                    version=__version__,
                )
            )
            self._make_places(connection, kind, run_id)
            failpoint("store.begin.commit.before")
        failpoint("store.begin.commit.after")
        prune.delete_rows(self.engine, self.dialect, given_up)
        return RunWriter(self.engine, self.dialect, run_id, kind=kind, placement=placement, done=set(), writer=writer)

    def _make_places(self, connection: Connection, kind: str, run_id: str) -> None:
        for table in TABLES_BY_KIND[kind]:
            self.dialect.create_run_storage(connection, table, run_id)

    def publish(
        self,
        run_id: str | None = None,
        *,
        guards: PublishSettings | None = None,
        expected_users: int | None = None,
        force: bool = False,
        placement: str = "default",
    ) -> str:
        """Point the placement at a run, in one transaction; return its id.

        Args:
            run_id: the run; the newest ready one of `placement` when not given.
            guards: bounds; None checks nothing but that the run is finished.
            expected_users: users that should have a list; what the run noted when not given.
            force: publish although a guard refuses.
            placement: where to look for the newest ready run.

        Raises:
            NotFoundError: no such run, or it was never finished, or its rows are pruned.
            PublishGuardError: a guard refuses.
        """

        def forward() -> str:
            with self.engine.begin() as connection:
                chosen = run_id or pointer.latest_ready_run(connection, placement)
                pointer.publish(
                    connection,
                    chosen,
                    guards=guards,
                    expected_users=expected_users,
                    force=force,
                    now=self.dialect.now(connection),
                )
                failpoint("store.publish.commit.before")
            failpoint("store.publish.commit.after")
            return chosen

        return retry_transaction(forward)

    def rollback(self, placement: str = "default") -> str:
        """Point the placement at the run before; return that run's id.

        Raises:
            NotFoundError: nothing is published there, or there is no earlier run with its rows.
        """

        def back() -> str:
            with self.engine.begin() as connection:
                before = pointer.rollback(connection, placement, now=self.dialect.now(connection))
                failpoint("store.rollback.commit.before")
            failpoint("store.rollback.commit.after")
            return before

        return retry_transaction(back)

    def prune(self, keep: int) -> int:
        """Delete the rows of all but the newest `keep` published runs of each placement, and what killed runs left.

        Readers and other writers go on meanwhile.

        Returns:
            How many runs lost their rows.
        """
        with self.engine.begin() as connection:
            marked = prune.mark_expired_runs(connection, keep, now=self.dialect.now(connection))
            failpoint("store.prune.commit.before")
        failpoint("store.prune.commit.after")
        prune.delete_orphaned_rows(self.engine, self.dialect)
        return len(marked)

    def runs(self) -> pl.DataFrame:
        """All runs, newest first, as text: columns `RUN_COLUMNS`."""
        chosen = [tables.runs.c[name] for name in RUN_COLUMNS]
        with self.reader() as connection:
            found = connection.execute(sa.select(*chosen).order_by(tables.runs.c.run_id.desc())).all()
        texts = [tuple(None if value is None else str(value) for value in row) for row in found]
        return pl.DataFrame(texts, schema=dict.fromkeys(RUN_COLUMNS, pl.String), orient="row")

    def run(self, run_id: str) -> dict[str, Any]:
        """Everything noted about one run, its shards summed up.

        Raises:
            NotFoundError: there is no such run.
        """
        shards = tables.run_shards
        with self.reader() as connection:
            facts = dict(pointer.run_row(connection, run_id))
            sums = sa.select(sa.func.count(), sa.func.sum(shards.c.n_users), sa.func.sum(shards.c.n_rows))
            n_shards, n_users, n_rows = connection.execute(sums.where(shards.c.run_id == run_id)).one()
        return {**facts, "shards": n_shards, "users_written": int(n_users or 0), "rows_written": int(n_rows or 0)}

    def recommendations(
        self, users: list[str] | None = None, *, placement: str = "default", k: int | None = None
    ) -> pl.DataFrame:
        """What consumers read: user_id, rank, product_id, score, reason, reason_product_id.

        A user who has no list gets the list of `__default__` under the own id. Unless users are named, all lists
        come, that of `__default__` too.
        """
        with self.reader() as connection:
            return lists.published_recommendations(connection, users, placement=placement, k=k)

    def counts(self) -> dict[str, int]:
        """Rows of the input tables and of the rejects."""
        wanted = (tables.products, tables.users, tables.events, tables.rejected_rows)
        with self.reader() as connection:
            return {
                table.name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
                for table in wanted
            }

    def write_embeddings(
        self,
        ids: list[str],
        vectors: FloatArray,
        model_version: str,
        hashes: npt.NDArray[np.uint64],
    ) -> int:
        """Write the vectors that differ from what is stored, by model and content hash; drop those of gone products.

        Args:
            ids: product ids.
            vectors: (n, d).
            model_version: the model that made them.
            hashes: (n,) what each was made from.

        Returns:
            Vectors written.
        """
        with self.engine.begin() as connection:
            written = embeddings.write(
                connection, self.dialect, ids, vectors, model_version=model_version, hashes=hashes
            )
            failpoint("store.embeddings.commit.before")
        failpoint("store.embeddings.commit.after")
        return written

    def reader(self) -> Connection:
        """A connection that reads one state of the store, whatever is published meanwhile."""
        return self.dialect.snapshot(self.engine)
