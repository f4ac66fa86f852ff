"""How long readers of the lists wait on PostgreSQL while runs are written, published, rolled back and pruned.

In: how long one transaction stays open. Out: latencies of processes that read all the time, and results that mix runs.

What a mixed result is, writeback_reader.py says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import servers
from telling import say

from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store

K, USERS = 20, 20_000
READERS = 4
_READER = Path(__file__).with_name("writeback_reader.py")


def lists(users: int, version: int) -> pl.DataFrame:
    n = users * K
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u{user:06d}" for user in range(users)])[np.arange(n) // K],
            "rank": (np.arange(n) % K + 1).astype(np.int32),
            "product_id": [f"v{version}"] * n,
            "score": np.full(n, 0.5),
            "reason": ["popular"] * n,
        }
    )


def night(store: Store, users: int, version: int) -> None:
    """Write a run of five shards and publish it."""
    frame, step = lists(users, version), users * K // 5
    with store.begin_run("recommend", RunManifest(f"m{version}", "data", "config")) as run:
        for shard in range(5):
            run.write_shard(shard, frame.slice(shard * step, step), n_users=users // 5)
        run.finish({"users": users})
        store.publish(run.run_id)


@contextmanager
def open_transaction(store: Store) -> Iterator[None]:
    """One reader that has read the lists and does not end its transaction."""
    from sqlalchemy import text

    with store.dialect.snapshot(store.engine) as connection:
        connection.execute(text("SELECT COUNT(*) FROM recommendations")).all()
        yield


def measured(asked: argparse.Namespace, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows for the result: 99th percentile and longest read by what went on, and mixed results.

    Raises:
        servers.NoServerError: there is no PostgreSQL here.
    """
    users, seconds = (500, 2.0) if asked.quick else (USERS, asked.seconds)
    spans: dict[str, tuple[float, float]] = {}
    with ExitStack() as held:
        url = held.enter_context(servers.postgres(synced=not asked.quick))
        store = held.enter_context(Store.open(url))
        store.init()
        version = 0
        for version in range(2):
            night(store, users, version)
        readers = [_started(url, seed, users) for seed in range(2 if asked.quick else READERS)]
        held.callback(lambda: [process.kill() for process in readers])

        def during(name: str, work: Callable[[], int], limit: float) -> None:
            say(name)
            started, count = time.time(), 0
            while time.time() - started < limit or not count:
                count += work()
            spans[name] = started, time.time()
            facts[name] = count

        def publish() -> int:
            nonlocal version
            version += 1
            night(store, users, version)
            return 1

        def back_and_forth() -> int:
            newest = store.runs().filter(pl.col("state") == "published")["run_id"][0]
            store.rollback()
            store.publish(newest)
            return 1

        during("quiet", lambda: time.sleep(0.2) or 1, seconds / 3)
        with open_transaction(store):
            during("publish", publish, seconds / 2)
            during("rollback", back_and_forth, seconds / 2)
        during("prune", lambda: store.prune(2), 0)
        told = [_ended(process) for process in readers]
    facts["reads"] = sum(len(each["took"]) for each in told)
    began, took = (np.concatenate([each[name] for each in told]) for name in ("began", "took"))
    out = [_row("mixed_results", float(sum(each["mixed"] for each in told)), "all")]
    for name, (start, end) in spans.items():
        within = 1000 * took[(began + took >= start) & (began <= end)]
        out.append(_row("read_ms_p99", float(np.percentile(within, 99)), name))
        out.append(_row("read_ms_longest", float(within.max()), name))
    return out


def _row(metric: str, value: float, kind: str) -> dict[str, Any]:
    value = round(value, 2)
    return {"system": "recsys", "metric": metric, "value": value, "low": value, "high": value, "slice": kind}


def _started(url: str, seed: int, users: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(_READER), url, str(seed), str(users)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.communicate("", timeout=60)[0].splitlines()[-1])
    return found
