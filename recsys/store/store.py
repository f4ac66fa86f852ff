"""The store: begin or resume runs, publish, roll back and prune them, and read what is published.

In: a database URL. Out: `Store`; a `RunWriter` for writing; frames of published rows.
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
from recsys.db import dialects, schema_version
from recsys.db.engine import connect, parse_url, sqlite_file
from recsys.db.retry import retry_transaction
from recsys.errors import NotFoundError
from recsys.execution.failpoints import failpoint
from recsys.store import embeddings, publication, retention, tables
from recsys.store.recommendations import published_recommendations
from recsys.store.run_ledger import (
    TABLES_BY_KIND,
    RunManifest,
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
"""Columns of `Store.runs`."""


class Store:
    """The database of recsys.

    Attributes:
        engine: SQLAlchemy engine.
        dialect: database-specific operations.
    """

    def __init__(self, engine: Engine, resources: ExitStack) -> None:
        self.engine = engine
        self.dialect = dialects.dialect_for(engine)
        self._resources = resources

    @staticmethod
    def open(url: str, *, lease: bool = True, shared: bool = False) -> Store:
        """Connect to a database and acquire its lease.

        Args:
            url: database URL.
            lease: be the only writer until `close`.
            shared: share the lease with the other parts of a run.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            LeaseHeldError: another process writes to this store.
            NotFoundError: a SQLite file that is only read does not exist.
            RecsysError: the schema is of a newer recsys.
        """
        file = sqlite_file(parse_url(url))
        if not (lease or shared) and file is not None and not file.exists():
            raise NotFoundError(f"database {file} does not exist; check the path, or run `recsys init`")
        engine = connect(url)
        resources = ExitStack()
        resources.callback(engine.dispose)
        try:
            schema_version.refuse_newer_schema(engine)
            if lease or shared:
                on_exclusive = partial(release_unfinished_runs, engine) if shared else None
                resources.enter_context(dialects.dialect_for(engine).lease(engine, on_exclusive=on_exclusive))
        except BaseException:
            resources.close()
            raise
        return Store(engine, resources)

    def close(self) -> None:
        """Release the lease and the connections."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def init(self) -> str:
        """Create or upgrade tables and views; return the schema version."""
        from recsys.db import migrate  # Alembic takes longer to import than most commands to run

        return migrate.upgrade(self.engine)

    def begin_run(
        self, kind: str, manifest: RunManifest, *, placement: str = "default", resume: bool = True, part: str = ""
    ) -> RunWriter:
        """Resume the unfinished run of the same manifest, or begin a new one.

        The caller holds the store's lease, so any other unfinished run of the placement has lost its writer: it is
        marked as failed and its rows are deleted. With `part`, a writer name that several processes share to write one
        run, the lease is shared: see `store.run_parts`.
        """
        runs, writer = tables.runs, part or f"{platform.node()}:{os.getpid()}"
        failed_runs: list[str] = []
        with self.engine.begin() as connection:
            unfinished = sa.select(runs).where(runs.c.state == "building", runs.c.placement == placement)
            # Every write locks the run's row first: this waits until a killed writer's last transaction is committed
            # or rolled back, so that neither the ledger read here nor the rows deleted here can change afterwards.
            for earlier in connection.execute(unfinished.with_for_update()).mappings().all():
                same_manifest = earlier["kind"] == kind and manifest == RunManifest.from_row(earlier)
                if part:
                    refuse_foreign_run(earlier, part, same_manifest=same_manifest)
                if resume and same_manifest:
                    connection.execute(sa.update(runs).where(runs.c.run_id == earlier["run_id"]).values(host=writer))
                    done = written_shards(connection, earlier["run_id"])
                    self._create_run_storage(connection, kind, earlier["run_id"])
                    return RunWriter(
                        self.engine,
                        self.dialect,
                        earlier["run_id"],
                        kind=kind,
                        placement=placement,
                        finished_shards=done,
                        writer=writer,
                    )
                reason = "given up: a run with other models, data or settings began"
                retention.mark_failed(connection, earlier["run_id"], reason=reason)
                failed_runs.append(earlier["run_id"])
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
            self._create_run_storage(connection, kind, run_id)
            failpoint("store.begin.commit.before")
        failpoint("store.begin.commit.after")
        retention.delete_run_rows(self.engine, self.dialect, failed_runs)
        return RunWriter(
            self.engine, self.dialect, run_id, kind=kind, placement=placement, finished_shards=set(), writer=writer
        )

    def _create_run_storage(self, connection: Connection, kind: str, run_id: str) -> None:
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
        available_only: bool = True,
    ) -> str:
        """Publish a run at its placement, in one transaction; return its id.

        Args:
            run_id: the run; by default the newest ready run of `placement`.
            guards: thresholds; None only checks that the run is finished.
            expected_users: number of users that should have a list; by default the number recorded with the run.
            force: publish despite failed guards.
            placement: placement whose newest ready run is published.
            available_only: whether the rules exclude products that are not available.

        Raises:
            NotFoundError: there is no such run, it was never finished, or its rows are pruned.
            PublishGuardError: a guard fails.
        """

        def publish_once() -> str:
            with self.engine.begin() as connection:
                chosen_run = run_id or publication.latest_ready_run(connection, placement)
                publication.publish(
                    connection,
                    chosen_run,
                    guards=guards,
                    expected_users=expected_users,
                    force=force,
                    now=self.dialect.now(connection),
                    available_only=available_only,
                )
                failpoint("store.publish.commit.before")
            failpoint("store.publish.commit.after")
            return chosen_run

        return retry_transaction(publish_once)

    def rollback(self, placement: str = "default") -> str:
        """Publish the previous run of the placement again; return its id.

        Raises:
            NotFoundError: nothing is published there, or there is no earlier run with its rows.
        """

        def rollback_once() -> str:
            with self.engine.begin() as connection:
                previous = publication.rollback(connection, placement, now=self.dialect.now(connection))
                failpoint("store.rollback.commit.before")
            failpoint("store.rollback.commit.after")
            return previous

        return retry_transaction(rollback_once)

    def prune(self, keep: int) -> int:
        """Delete rows of all but the newest `keep` published runs of each placement, and rows of killed runs.

        Readers and other writers are not blocked.

        Returns:
            Number of runs whose rows were deleted.
        """
        with self.engine.begin() as connection:
            marked = retention.mark_expired_runs(connection, keep, now=self.dialect.now(connection))
            failpoint("store.prune.commit.before")
        failpoint("store.prune.commit.after")
        retention.delete_orphaned_rows(self.engine, self.dialect)
        return len(marked)

    def runs(self) -> pl.DataFrame:
        """Return all runs, newest first, as text: columns `RUN_COLUMNS`."""
        columns = [tables.runs.c[name] for name in RUN_COLUMNS]
        with self.reader() as connection:
            rows = connection.execute(sa.select(*columns).order_by(tables.runs.c.run_id.desc())).all()
        texts = [tuple(None if value is None else str(value) for value in row) for row in rows]
        return pl.DataFrame(texts, schema=dict.fromkeys(RUN_COLUMNS, pl.String), orient="row")

    def run(self, run_id: str) -> dict[str, Any]:
        """Return the row of a run, with the sums of its shards.

        Raises:
            NotFoundError: there is no such run.
        """
        shards = tables.run_shards
        with self.reader() as connection:
            row = dict(publication.get_run(connection, run_id))
            sums = sa.select(sa.func.count(), sa.func.sum(shards.c.n_users), sa.func.sum(shards.c.n_rows))
            n_shards, n_users, n_rows = connection.execute(sums.where(shards.c.run_id == run_id)).one()
        return {**row, "shards": n_shards, "users_written": int(n_users or 0), "rows_written": int(n_rows or 0)}

    def recommendations(
        self, users: list[str] | None = None, *, placement: str = "default", k: int | None = None
    ) -> pl.DataFrame:
        """Read published lists: user_id, rank, product_id, score, reason, reason_product_id.

        A user without a list gets the list of `__default__` under their own id. If `users` is None, all lists are
        returned, including `__default__`.
        """
        with self.reader() as connection:
            return published_recommendations(connection, users, placement=placement, k=k)

    def row_counts(self) -> dict[str, int]:
        """Return the number of rows of the input tables and of rejected rows."""
        counted_tables = (tables.products, tables.users, tables.events, tables.rejected_rows)
        with self.reader() as connection:
            return {
                table.name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
                for table in counted_tables
            }

    def write_embeddings(
        self,
        ids: list[str],
        vectors: FloatArray,
        model_version: str,
        hashes: npt.NDArray[np.uint64],
    ) -> int:
        """Write the vectors whose model or content hash changed; delete the vectors of removed products.

        Args:
            ids: product ids; the vectors of all other products are deleted.
            vectors: (n, d).
            model_version: the model that computed them.
            hashes: (n,) hashes of the content each vector was computed from.

        Returns:
            Number of vectors written.
        """
        with self.engine.begin() as connection:
            written = embeddings.write_embeddings(
                connection, self.dialect, ids, vectors, model_version=model_version, hashes=hashes
            )
            failpoint("store.embeddings.commit.before")
        failpoint("store.embeddings.commit.after")
        return written

    def reader(self) -> Connection:
        """Open a connection that reads one snapshot of the store, independent of concurrent publishing."""
        return self.dialect.snapshot(self.engine)
