"""Erase users: delete their rows in all tables and runs, and keep hashes that reject them later.

In: a store opened with the lease, user ids. Out: numbers of deleted rows. All in one transaction.

Rows and ledger of a finished run must agree: deleted rows are subtracted in a ledger row of their own, with shard id
`ERASURE_SHARD_ID`. Unfinished runs are marked as failed; the next run is written without these users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.erased_users import ErasedUsers, user_hash
from recsys.data.schema import DEFAULT_USER
from recsys.errors import UsageError
from recsys.store import retention, tables
from recsys.store.recommendations import chunk_ids

if TYPE_CHECKING:
    from recsys.store.store import Store

ERASURE_SHARD_ID: Final = -1
"""Shard id of the ledger row that holds the rows erased from a run, as negative counts."""


@dataclass(frozen=True)
class ErasureCounts:
    """Numbers of erased rows.

    Attributes:
        users: requested users that had rows in the store.
        events: deleted events.
        lists: deleted rows of recommendations, in all runs.
        rejected: rejected rows whose content was cleared; the reason is kept.
        runs: unfinished runs that were marked as failed.
    """

    users: int
    events: int
    lists: int
    rejected: int
    runs: int


def load_erased_users(store: Store) -> ErasedUsers:
    """Return the users erased so far, as hashes."""
    with store.reader() as connection:
        return ErasedUsers(frozenset(connection.execute(sa.select(tables.forgotten_users.c.user_hash)).scalars()))


def erase_users(store: Store, user_ids: Sequence[str]) -> ErasureCounts:
    """Erase users from every table of the store, and record their hashes.

    Args:
        store: opened with the lease.
        user_ids: users to erase; unknown ids are recorded too, so that later inputs cannot bring them in.

    Raises:
        UsageError: an id is that of the list for users without history, which is no user.
    """
    ids = list(dict.fromkeys(user_ids))
    if DEFAULT_USER in ids:
        raise UsageError(f"'{DEFAULT_USER}' is the list for users without history, not a user")
    hashes = {user_hash(user_id): user_id for user_id in ids}
    with store.engine.begin() as connection:
        now = store.dialect.now(connection)
        for digest in hashes:
            store.dialect.insert_new(connection, tables.forgotten_users, {"user_hash": digest, "forgotten_at": now})
        stored_users = _find_stored_users(connection, ids)
        events = sum(_delete_user_rows(connection, tables.events, chunk) for chunk in chunk_ids(ids))
        for chunk in chunk_ids(ids):
            _delete_user_rows(connection, tables.users, chunk)
        failed_runs = _fail_unfinished_runs(connection)
        lists, listed_users = _delete_recommendations(store, connection, ids, excluded_runs=set(failed_runs))
        rejected = _clear_rejected_rows(connection, ErasedUsers(frozenset(hashes), frozenset(ids)))
    retention.delete_run_rows(store.engine, store.dialect, failed_runs)
    store.dialect.vacuum(store.engine)
    return ErasureCounts(len(stored_users | listed_users), events, lists, rejected, len(failed_runs))


def _find_stored_users(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return the ids that occur in users or events."""
    stored: set[str] = set()
    for chunk in chunk_ids(ids):
        for table in (tables.users, tables.events):
            query = sa.select(table.c.user_id).where(table.c.user_id.in_(chunk)).distinct()
            stored |= set(connection.execute(query).scalars())
    return stored


def _delete_user_rows(connection: Connection, table: sa.Table, ids: list[str], *where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.delete(table).where(*where, table.c.user_id.in_(ids))).rowcount


def _fail_unfinished_runs(connection: Connection) -> list[str]:
    """Mark unfinished runs of recommendations as failed; return their ids."""
    runs = tables.runs
    unfinished = sa.select(runs.c.run_id).where(runs.c.state == "building", runs.c.kind == "recommend")
    run_ids = list(connection.execute(unfinished.with_for_update()).scalars())
    for run_id in run_ids:
        retention.mark_failed(connection, run_id, reason="given up: users of it were forgotten")
    return run_ids


def _delete_recommendations(
    store: Store, connection: Connection, ids: Sequence[str], *, excluded_runs: set[str]
) -> tuple[int, set[str]]:
    """Delete the users' recommendations in all runs and record rows and users in the ledgers.

    Returns:
        Rows deleted, and the users that had any.
    """
    table, total, users = tables.recommendations_all, 0, set[str]()
    for run_id in store.dialect.stored_run_ids(connection, table):
        if run_id in excluded_runs:
            continue
        storage, rows, run_users = store.dialect.run_storage(table, run_id), 0, set[str]()
        placement = sa.select(tables.runs.c.placement).where(tables.runs.c.run_id == run_id).scalar_subquery()
        in_run = (storage.c.run_id == run_id, storage.c.placement == placement)
        for chunk in chunk_ids(ids):
            query = sa.select(storage.c.user_id).where(*in_run, storage.c.user_id.in_(chunk)).distinct()
            run_users |= set(connection.execute(query).scalars())
            rows += _delete_user_rows(connection, storage, chunk, *in_run)
        if rows:
            _record_in_ledger(store, connection, run_id, users=len(run_users), rows=rows)
        total, users = total + rows, users | run_users
    return total, users


def _record_in_ledger(store: Store, connection: Connection, run_id: str, *, users: int, rows: int) -> None:
    shards = tables.run_shards
    ledger_row = {"run_id": run_id, "shard_id": ERASURE_SHARD_ID, "n_users": 0, "n_rows": 0, "checksum": "forgotten"}
    store.dialect.insert_new(connection, shards, ledger_row)
    reduced = {"n_users": shards.c.n_users - users, "n_rows": shards.c.n_rows - rows}
    connection.execute(
        sa.update(shards).where(shards.c.run_id == run_id, shards.c.shard_id == ERASURE_SHARD_ID).values(reduced)
    )


def _clear_rejected_rows(connection: Connection, erased: ErasedUsers) -> int:
    """Clear the content of rejected rows that name these users; the rejection and its reason stay."""
    rejected = tables.rejected_rows
    key = (rejected.c.source, rejected.c.row_no, rejected.c.table_name, rejected.c.code)
    has_content = sa.or_(rejected.c.row_json.is_not(None), rejected.c.value_excerpt.is_not(None))
    rows = connection.execute(sa.select(*key, rejected.c.row_json, rejected.c.value_excerpt).where(has_content))
    keys = [tuple(row[:4]) for row in rows if erased.is_named_in(row[4], row[5])]
    for values in keys:
        same_key = [
            column.is_(None) if value is None else column == value for column, value in zip(key, values, strict=True)
        ]
        connection.execute(sa.update(rejected).where(*same_key).values(value_excerpt=None, row_json=None))
    return len(keys)
