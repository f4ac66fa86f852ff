"""SIGTERM and SIGINT while users are scored: the exit code comes soon, no shard is half written, the same run goes on.

The program itself, with its models, is stopped in tests/e2e/test_again.py.
"""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from recsys.db.engine import fetch_rows
from recsys.store.store import Store
from tests.faults.invariants import check
from tests.faults.night import SHARDS, everything, night, recommend, stock
from tests.faults.stub import Child, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

TIMES, TIMES_LARGE = 4, 100
SECONDS = 20
"""How long a stopped run may take to end: not a measure of speed, the longest that is not an error."""


def test_a_stopped_run_goes_on(
    database_url: str, processes: ForkServerContext, faults_large: bool, tally: Tally, tmp_path: Path
) -> None:
    dice = random.Random(5)
    with Store.open(f"sqlite:///{tmp_path}/uncrashed.db") as store:
        night(store, "a")
        lists = everything(store)["lists"]
    with Store.open(database_url) as store:
        store.init()
        stock(store)
    for number in range(TIMES_LARGE if faults_large else TIMES):
        with tally(f"SIGTERM, SIGINT while scoring, {database_url.partition(':')[0]}") as line:
            at, writing = dice.randrange(SHARDS), number % 2 == 1
            child = Child(processes, "tests.faults.stub:stopped_run", database_url, "a", at, writing)
            assert child.hear() == at
            sent = dice.choice([signal.SIGTERM, signal.SIGINT])
            began = time.monotonic()
            os.kill(child.process.pid or 0, sent)
            assert child.ended(timeout=SECONDS) == 128 + sent, child.said[-1:]
            line.notes[:] = [f"the last one ended after {time.monotonic() - began:.2f} s"]
            with taken(database_url) as store:
                at_work = fetch_rows(store.engine, "SELECT run_id FROM runs WHERE state = 'building'", {})
                assert store.run(at_work[0][0])["shards"] == at + writing, "a shard was lost, or half written"
                check(database_url)
                assert recommend(store, "a") == at_work[0][0], "another run was begun"
                store.prune(2)
            check(database_url, shown=[lists], settled=True)
