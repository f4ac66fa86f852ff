"""The store: runs are begun or resumed here, published by moving a pointer, rolled back, pruned, and read.

In: a database URL. Out: `Store`; a `Run` to write; frames of what consumers read.
"""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from recsys import __version__
from recsys.config import PublishSettings
from recsys.data.schema import DEFAULT_USER
from recsys.db import dialects, migrate
from recsys.db.engine import connect
from recsys.errors import NotFoundError, PublishGuardError, suggestion
from recsys.store import guards as guarding
from recsys.store import tables
from recsys.store import prune
from recsys.store.run import Manifest, Run, new_run_id

__all__ = ["Manifest", "Run", "Store"]

_ASKED = 500
"""User ids in one query: below SQLite's limit on parameters."""


class Store:
    """A shop's database as recsys uses it.

    Attributes:
        engine: SQLAlchemy engine.
        dialect: what is done differently in this database.
    """

    def __init__(self, engine: Engine, held: ExitStack) -> None:
        self.engine = engine
        self.dialect = dialects.of(engine)
        self._held = held

    @staticmethod
    def open(url: str, *, lease: bool = True) -> Store:
        """Connect; with `lease`, be the only writer until `close`.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            LeaseHeldError: another process writes to this store.
        """
        engine = connect(url)
        held = ExitStack()
        held.callback(engine.dispose)
        try:
            if lease:
                held.enter_context(dialects.of(engine).lease(engine))
        except BaseException:
            held.close()
            raise
        return Store(engine, held)

    def close(self) -> None:
        """Give the lease and the connections back."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def init(self) -> str:
        """Make or upgrade tables and views; return the schema's version."""
        return migrate.upgrade(self.engine)

    def begin(self, kind: str, manifest: Manifest, *, placement: str = "default", resume: bool = True) -> Run:
        """Go on with the unfinished run of the same manifest, or start a new one.

        The caller holds the store's lease, so any other unfinished run of the placement has lost its writer: it is
        marked failed and its rows go.
        """
        with self.engine.begin() as connection:
            runs = tables.runs
            unfinished = sa.select(runs).where(runs.c.state == "building", runs.c.placement == placement)
            for old in connection.execute(unfinished).mappings().all():
                if resume and _same(old, kind, manifest):
                    return Run(self, old["run_id"], kind=kind, placement=placement, done=_ledger(connection, old["run_id"]))
                self._abandon(connection, old["run_id"])
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
                    host=f"{platform.node()}:{os.getpid()}",
                    version=__version__,
                )
            )
        return Run(self, run_id, kind=kind, placement=placement, done=set())

    @staticmethod
    def _abandon(connection: Connection, run_id: str) -> None:
        prune.rows_of(connection, run_id)
        reason = "given up: a run with other models, data or settings began"
        connection.execute(sa.update(tables.runs).where(tables.runs.c.run_id == run_id).values(state="failed", reason=reason))

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
        runs = tables.runs
        with self.engine.begin() as connection:
            if run_id is None:
                ready = sa.select(sa.func.max(runs.c.run_id)).where(runs.c.placement == placement, runs.c.state == "ready")
                run_id = connection.execute(ready).scalar_one()
                if run_id is None:
                    raise NotFoundError(f"no finished run waits to be published at '{placement}'; run 'recsys recommend'")
            run = self._run(connection, run_id)
            if run["state"] in ("building", "failed") or run["pruned_at"] is not None:
                state = "pruned" if run["pruned_at"] is not None else run["state"]
                raise NotFoundError(f"run {run_id} cannot be published: it is {state}; see 'recsys runs list'")
            current = _published(connection, run["placement"])
            if run["kind"] == "recommend" and guards is not None:
                expected = expected_users if expected_users is not None else int((run["counts"] or {}).get("users", 0))
                said = guarding.refusals(
                    connection, run_id, settings=guards, expected_users=expected, last_run=current and current["run_id"]
                )
                if said and not force:
                    raise PublishGuardError(
                        f"run {run_id} is not published: {'; '.join(said)}. What consumers read is unchanged; "
                        f"'recsys publish {run_id} --force' publishes it all the same"
                    )
            self._point(connection, run["placement"], run_id, current)
        return run_id

    def _point(self, connection: Connection, placement: str, run_id: str, current: RowMapping | None) -> None:
        """Move the pointer forward; the run that was read becomes the one to go back to."""
        publications, runs, now = tables.publications, tables.runs, self.dialect.now(connection)
        if current is not None and current["run_id"] == run_id:
            return
        if current is None:
            connection.execute(
                sa.insert(publications).values(placement=placement, run_id=run_id, generation=1, updated_at=now)
            )
        else:
            connection.execute(
                sa.update(publications)
                .where(publications.c.placement == placement)
                .values(
                    run_id=run_id,
                    previous_run_id=current["run_id"],
                    generation=publications.c.generation + 1,
                    updated_at=now,
                )
            )
            connection.execute(sa.update(runs).where(runs.c.run_id == current["run_id"]).values(state="superseded"))
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(state="published", published_at=now))

    def rollback(self, placement: str = "default") -> str:
        """Point the placement at the run before; return that run's id.

        Raises:
            NotFoundError: nothing is published there, or there is no earlier run with its rows.
        """
        publications, runs = tables.publications, tables.runs
        with self.engine.begin() as connection:
            current = _published(connection, placement)
            if current is None:
                raise NotFoundError(f"nothing is published at '{placement}'; there is nothing to go back from")
            back = current["previous_run_id"]
            if back is None or self._run(connection, back)["pruned_at"] is not None:
                raise NotFoundError(f"run {current['run_id']} at '{placement}' has no earlier run to go back to")
            now = self.dialect.now(connection)
            earlier = (
                sa.select(sa.func.max(runs.c.run_id))
                .where(runs.c.placement == placement, runs.c.state == "superseded", runs.c.pruned_at.is_(None))
                .where(runs.c.run_id < back)
            )
            connection.execute(
                sa.update(publications)
                .where(publications.c.placement == placement)
                .values(
                    run_id=back,
                    previous_run_id=earlier.scalar_subquery(),
                    generation=publications.c.generation + 1,
                    updated_at=now,
                )
            )
            connection.execute(sa.update(runs).where(runs.c.run_id == current["run_id"]).values(state="rolled_back"))
            connection.execute(sa.update(runs).where(runs.c.run_id == back).values(state="published", published_at=now))
        return str(back)

    def prune(self, keep: int) -> int:
        """Delete the rows of all but the newest `keep` published runs of each placement; return how many runs lost rows."""
        with self.engine.begin() as connection:
            return prune.old_runs(connection, keep, now=self.dialect.now(connection))

    def runs(self) -> pl.DataFrame:
        """All runs, newest first: run_id, kind, placement, state, model_version, started_at, finished_at, published_at, reason."""
        columns = ("run_id", "kind", "placement", "state", "model_version", "started_at", "finished_at", "published_at", "reason")
        chosen = [tables.runs.c[name] for name in columns]
        with self._reader() as connection:
            found = connection.execute(sa.select(*chosen).order_by(tables.runs.c.run_id.desc())).all()
        texts = [tuple(None if value is None else str(value) for value in row) for row in found]
        return pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String), orient="row")

    def run(self, run_id: str) -> dict[str, Any]:
        """Everything noted about one run, its shards summed up.

        Raises:
            NotFoundError: there is no such run.
        """
        shards = tables.run_shards
        with self._reader() as connection:
            facts = dict(self._run(connection, run_id))
            sums = sa.select(sa.func.count(), sa.func.sum(shards.c.n_users), sa.func.sum(shards.c.n_rows))
            n_shards, n_users, n_rows = connection.execute(sums.where(shards.c.run_id == run_id)).one()
        return {**facts, "shards": n_shards, "users_written": int(n_users or 0), "rows_written": int(n_rows or 0)}

    @staticmethod
    def _run(connection: Connection, run_id: str) -> RowMapping:
        found = connection.execute(sa.select(tables.runs).where(tables.runs.c.run_id == run_id)).mappings().first()
        if found is None:
            known = connection.execute(sa.select(tables.runs.c.run_id)).scalars().all()
            raise NotFoundError(f"there is no run '{run_id}'{suggestion(run_id, known)}; 'recsys runs list' lists them")
        return found

    def recommendations(
        self, users: list[str] | None = None, *, placement: str = "default", k: int | None = None
    ) -> pl.DataFrame:
        """What consumers read: user_id, rank, product_id, score, reason, reason_product_id.

        A user who has no list gets the list of `__default__` under the own id. Unless users are named, all lists
        come, that of `__default__` too.
        """
        published = sa.table("recommendations", *(sa.column(name) for name in (*_LIST, "placement")))
        query = sa.select(*(published.c[name] for name in _LIST)).where(published.c.placement == placement)
        if k is not None:
            query = query.where(published.c.rank <= k)
        with self._reader() as connection:
            if users is None:
                return _lists(connection.execute(query.order_by(published.c.user_id, published.c.rank)).all())
            asked = list(dict.fromkeys((*users, DEFAULT_USER)))
            rows: list[Any] = []
            for start in range(0, len(asked), _ASKED):
                rows += connection.execute(query.where(published.c.user_id.in_(asked[start : start + _ASKED]))).all()
        lists = _lists(rows)
        default = lists.filter(pl.col("user_id") == DEFAULT_USER)
        order = pl.DataFrame({"user_id": list(dict.fromkeys(users))}, schema={"user_id": pl.String}).with_row_index("asked")
        own = lists.join(order, on="user_id")
        others = order.join(own, on="user_id", how="anti").join(default.drop("user_id"), how="cross")
        both = pl.concat([own, others.select(own.columns)]).sort("asked", "rank")
        return both.select(_LIST)

    def counts(self) -> dict[str, int]:
        """Rows of the input tables and of the rejects."""
        wanted = (tables.products, tables.users, tables.events, tables.rejected_rows)
        with self._reader() as connection:
            return {
                table.name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()) for table in wanted
            }

    def write_embeddings(
        self,
        ids: list[str],
        vectors: npt.NDArray[np.float32],
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
        table = tables.product_embeddings
        names = np.asarray([f"{value:016x}" for value in hashes.tolist()])
        with self.engine.begin() as connection:
            known = connection.execute(sa.select(table.c.product_id, table.c.model_version, table.c.content_hash)).all()
            stored = {row[0]: (row[1], row[2]) for row in known}
            rows = [
                row for row, name in enumerate(ids) if stored.get(name) != (model_version, names[row])
            ]
            gone = sorted(set(stored) - set(ids))
            for start in range(0, len(gone), _ASKED):
                connection.execute(sa.delete(table).where(table.c.product_id.in_(gone[start : start + _ASKED])))
            frame = pl.DataFrame(
                {
                    "product_id": [ids[row] for row in rows],
                    "model_version": [model_version] * len(rows),
                    "content_hash": [str(names[row]) for row in rows],
                    "dim": [vectors.shape[1]] * len(rows),
                    "vector": [np.ascontiguousarray(vectors[row], "<f4").tobytes() for row in rows],
                },
                schema={
                    "product_id": pl.String,
                    "model_version": pl.String,
                    "content_hash": pl.String,
                    "dim": pl.Int32,
                    "vector": pl.Binary,
                },
            )
            self.dialect.upsert(connection, table, frame)
        return len(rows)

    def _reader(self) -> Connection:
        return self.engine.connect().execution_options(stream_results=True)


_LIST = ("user_id", "rank", "product_id", "score", "reason", "reason_product_id")


def _lists(rows: Any) -> pl.DataFrame:
    kinds = (pl.String, pl.Int64, pl.String, pl.Float64, pl.String, pl.String)
    return pl.DataFrame([tuple(row) for row in rows], schema=dict(zip(_LIST, kinds, strict=True)), orient="row")


def _same(run: RowMapping, kind: str, manifest: Manifest) -> bool:
    return run["kind"] == kind and manifest == Manifest(
        run["model_version"], run["data_fingerprint"], run["config_hash"], run["extra"] or {}
    )


def _ledger(connection: Connection, run_id: str) -> set[int]:
    shards = tables.run_shards
    return set(connection.execute(sa.select(shards.c.shard_id).where(shards.c.run_id == run_id)).scalars())


def _published(connection: Connection, placement: str) -> RowMapping | None:
    query = sa.select(tables.publications).where(tables.publications.c.placement == placement)
    return connection.execute(query).mappings().first()
