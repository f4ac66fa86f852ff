"""Forgetting users: every row of theirs goes, in all runs, and a hash keeps them from coming back.

In: a store whose lease is held, user ids. Out: how many rows went. One transaction: all of it or nothing.

A finished run keeps its promise that rows and ledger agree: what was taken out of it is booked in a ledger line of its
own, number `BOOKED`. A run at work is given up; the next one is made without these users.
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
from recsys.store import retention as prune
from recsys.store import tables
from recsys.store.recommendations import chunks

if TYPE_CHECKING:
    from recsys.store.store import Store

BOOKED: Final = -1
"""Number of the ledger line that says what forgetting took out of a run."""


@dataclass(frozen=True)
class ErasureCounts:
    """What went.

    Attributes:
        users: of the given ids, those the store held anything of.
        events: rows.
        lists: rows of recommendations, in all runs.
        rejected: rejected rows of which only the reason is left.
        runs: unfinished runs that were given up.
    """

    users: int
    events: int
    lists: int
    rejected: int
    runs: int


def load_erased_users(store: Store) -> ErasedUsers:
    """Who was forgotten before."""
    with store.reader() as connection:
        return ErasedUsers(frozenset(connection.execute(sa.select(tables.forgotten_users.c.user_hash)).scalars()))


def erase_users(store: Store, user_ids: Sequence[str]) -> ErasureCounts:
    """Erase users from every table of the store, and note their hashes.

    Args:
        store: opened with the lease.
        user_ids: whom; those the store does not know are noted too, so that they cannot come.

    Raises:
        UsageError: the list for users without history is no user.
    """
    ids = list(dict.fromkeys(user_ids))
    if DEFAULT_USER in ids:
        raise UsageError(f"'{DEFAULT_USER}' is the list for users without history, not a user")
    hashes = {user_hash(one): one for one in ids}
    with store.engine.begin() as connection:
        now = store.dialect.now(connection)
        for one in hashes:
            store.dialect.insert_new(connection, tables.forgotten_users, {"user_hash": one, "forgotten_at": now})
        found = _held(connection, ids)
        events = sum(_deleted(connection, tables.events, some) for some in chunks(ids))
        for some in chunks(ids):
            _deleted(connection, tables.users, some)
        given_up = _given_up(connection)
        lists, listed = _lists(store, connection, ids, without=set(given_up))
        rejected = _blanked(connection, ErasedUsers(frozenset(hashes)))
    prune.delete_rows(store.engine, store.dialect, given_up)
    store.dialect.overwrite(store.engine)
    return ErasureCounts(len(found | listed), events, lists, rejected, len(given_up))


def _held(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of the ids are among users and events."""
    out: set[str] = set()
    for some in chunks(ids):
        for table in (tables.users, tables.events):
            query = sa.select(table.c.user_id).where(table.c.user_id.in_(some)).distinct()
            out |= set(connection.execute(query).scalars())
    return out


def _deleted(connection: Connection, table: sa.Table, ids: list[str], *where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.delete(table).where(*where, table.c.user_id.in_(ids))).rowcount


def _given_up(connection: Connection) -> list[str]:
    """Unfinished runs of lists: they are over."""
    runs = tables.runs
    at_work = sa.select(runs.c.run_id).where(runs.c.state == "building", runs.c.kind == "recommend")
    out = list(connection.execute(at_work.with_for_update()).scalars())
    for run_id in out:
        prune.mark_failed(connection, run_id, reason="given up: users of it were forgotten")
    return out


def _lists(store: Store, connection: Connection, ids: Sequence[str], *, without: set[str]) -> tuple[int, set[str]]:
    """Delete the users' lists of all runs and book it in their ledgers: rows, and whose."""
    whole, total, users = tables.recommendations_all, 0, set[str]()
    for run_id in store.dialect.run_ids(connection, whole):
        if run_id in without:
            continue
        place, rows, mine = store.dialect.run_storage(whole, run_id), 0, set[str]()
        placement = sa.select(tables.runs.c.placement).where(tables.runs.c.run_id == run_id).scalar_subquery()
        here = (place.c.run_id == run_id, place.c.placement == placement)
        for some in chunks(ids):
            query = sa.select(place.c.user_id).where(*here, place.c.user_id.in_(some)).distinct()
            mine |= set(connection.execute(query).scalars())
            rows += _deleted(connection, place, some, *here)
        if rows:
            _booked(store, connection, run_id, users=len(mine), rows=rows)
        total, users = total + rows, users | mine
    return total, users


def _booked(store: Store, connection: Connection, run_id: str, *, users: int, rows: int) -> None:
    shards = tables.run_shards
    line = {"run_id": run_id, "shard_id": BOOKED, "n_users": 0, "n_rows": 0, "checksum": "forgotten"}
    store.dialect.insert_new(connection, shards, line)
    less = {"n_users": shards.c.n_users - users, "n_rows": shards.c.n_rows - rows}
    connection.execute(sa.update(shards).where(shards.c.run_id == run_id, shards.c.shard_id == BOOKED).values(less))


def _blanked(connection: Connection, gone: ErasedUsers) -> int:
    """Take away what rejected rows of these users held; that a row was rejected, and why, stays."""
    bad = tables.rejected_rows
    key = (bad.c.source, bad.c.row_no, bad.c.table_name, bad.c.code)
    held = connection.execute(sa.select(*key, bad.c.row_json).where(bad.c.row_json.is_not(None)))
    named = [tuple(row[:4]) for row in held if gone.named(row[4])]
    for values in named:
        same = [
            column.is_(None) if value is None else column == value for column, value in zip(key, values, strict=True)
        ]
        connection.execute(sa.update(bad).where(*same).values(value_excerpt=None, row_json=None))
    return len(named)
