"""Many at once: publishers that move one pointer, writers that want one store, readers beside all of them."""

from __future__ import annotations

import random
import time
from multiprocessing.context import ForkServerContext

import pytest
import sqlalchemy as sa

from recsys.db.engine import fetch_rows
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.faults.invariants import check
from tests.faults.night import GUARDS, SHARDS, USERS, USERS_IN_SHARD, night, scored, stock
from tests.faults.stub import Child, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

PUBLISHERS, READERS = 8, 4
ROUNDS, ROUNDS_LARGE = 5, 200
FLIPS, FLIPS_LARGE = 10, 500
PAUSE = 0.06
"""Seconds between two flips, so that there is something to read; in the large column 30 in all."""


def _ready(store: Store, version: str) -> str:
    """A run that waits to be published."""
    with store.begin_run("recommend", RunManifest(version, "data", "config"), resume=False) as run:
        for shard in range(SHARDS):
            run.write_shard(shard, scored(shard, version), n_users=USERS_IN_SHARD)
        run.finish({"users": USERS})
    return run.run_id


def _pointer(store: Store) -> tuple[str, str | None, int]:
    found = fetch_rows(store.engine, "SELECT run_id, previous_run_id, generation FROM publications", {})
    return found[0] if found else ("", None, 0)


def test_eight_publishers(database_url: str, faults_large: bool, processes: ForkServerContext, tally: Tally) -> None:
    """They have no lease, so only the database keeps them apart; each moves the pointer, from the first one on."""
    with Store.open(database_url) as store:
        store.init()
        stock(store)
        children = [Child(processes, "tests.faults.stub:publisher", database_url) for _ in range(PUBLISHERS)]
        for child in children:
            child.hear()
        for _ in range(ROUNDS_LARGE if faults_large else ROUNDS):
            with tally(f"{PUBLISHERS} publishers, {store.engine.dialect.name}"):
                waiting = [_ready(store, version) for version in ("a", "bb", "ccc", "dddd") * 2]
                _, _, generation = _pointer(store)
                for child, run_id in zip(children, waiting, strict=True):
                    child.pipe.send(run_id)
                assert [child.hear() for child in children] == waiting, "a publisher failed"
                current, before, moved = _pointer(store)
                assert moved == generation + PUBLISHERS, "a flip was lost"
                assert {current, before} <= set(waiting) and current != before
                assert current in {
                    run_id for (run_id,) in fetch_rows(store.engine, "SELECT run_id FROM recommendations", {})
                }
                states = dict(fetch_rows(store.engine, "SELECT run_id, state FROM runs", {}))
                assert {run_id: states[run_id] for run_id in waiting} == {
                    run_id: "published" if run_id == current else "superseded" for run_id in waiting
                }
                store.prune(GUARDS.keep_runs)
                check(database_url)
        for child in children:
            child.pipe.send(None)
            assert child.ended() == 0
    check(database_url, settled=True)


def test_of_eight_nights_at_once_one_is_done_and_the_others_come_back_later(
    database_url: str, processes: ForkServerContext, tally: Tally
) -> None:
    with tally(f"{PUBLISHERS} nights at once, {database_url.partition(':')[0]}"):
        with Store.open(database_url) as store:
            store.init()
        children = [Child(processes, "tests.faults.stub:night", database_url, "a") for _ in range(PUBLISHERS)]
        codes = sorted(child.ended() for child in children)
        assert codes[0] == 0 and set(codes) <= {0, 75}, [child.said[-1] for child in children]
        check(database_url, settled=True)
        with taken(database_url) as store:
            night(store, "bb")
        check(database_url, settled=True)


def test_readers_beside_publications_and_rollbacks(
    database_url: str, faults_large: bool, processes: ForkServerContext, tally: Tally
) -> None:
    dice = random.Random(3)
    flips = FLIPS_LARGE if faults_large else FLIPS
    with Store.open(database_url) as store:
        store.init()
        stock(store)
        ids = {_ready(store, version): version for version in ("a", "bb", "ccc")}
        sizes = {version: sum(scored(shard, version).height for shard in range(SHARDS)) for version in ids.values()}
        published = list(ids)[0]
        store.publish(published, guards=GUARDS)
        children = [Child(processes, "tests.faults.stub:reader", database_url, sizes) for _ in range(READERS)]
        for child in children:
            child.hear()
        everything = sa.text("SELECT run_id, user_id, rank, product_id FROM recommendations ORDER BY 1, 2, 3")
        with tally(f"{READERS} readers, {store.engine.dialect.name}: publications and rollbacks", runs=flips) as line:
            with store.dialect.snapshot(store.engine) as long:
                before = long.execute(everything).all()
                for _ in range(flips):
                    time.sleep(PAUSE)
                    _, back, _ = _pointer(store)
                    if back is not None and dice.random() < 0.4:
                        store.rollback()
                    else:
                        store.publish(dice.choice([run_id for run_id in ids if run_id != _pointer(store)[0]]))
                assert long.execute(everything).all() == before, "I4: a transaction saw two runs"
            for child in children:
                child.pipe.send("stop")
            told = [child.hear() for child in children]
            for child, (reads, wrong, _) in zip(children, told, strict=True):
                assert child.ended() == 0
                assert reads > 0 and wrong == [], f"I4: {len(wrong)} of {reads} reads"
            waits = sorted(wait for _, _, seconds in told for wait in seconds)
            line.notes.append(f"{len(waits):,} reads, p99 {1000 * waits[int(0.99 * len(waits))]:.1f} ms")
    check(database_url)
