"""Real scoring and writing of any number of users in bounded memory: users' vectors are drawn shard by shard.

In: the URL of a store, a number of users. Out: a published run; what memory it took, in MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from recsys.data.schema import DEFAULT_USER
from recsys.execution.progress import peak_mb
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from recsys.vectors.topk.scorer import top_k
from tests.faults.night import GUARDS, PRODUCTS, stock

SHARD, K, DIM = 5000, 5, 16


def lists(users: int) -> Iterator[tuple[int, pl.DataFrame, int]]:
    """Shards of lists: number, rows, users; the default list is in shard 0."""
    items = np.random.default_rng(0).normal(size=(len(PRODUCTS), DIM)).astype(np.float32)
    for shard, start in enumerate(range(0, users, SHARD)):
        count = min(SHARD, users - start)
        queries = np.random.default_rng([1, shard]).normal(size=(count, DIM)).astype(np.float32)
        scores, rows = top_k(queries, items, K)
        frame = pl.DataFrame(
            {
                "user_id": [f"u{number:09d}" for number in range(start, start + count) for _ in range(K)],
                "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), count),
                "product_id": [PRODUCTS[row] for row in rows.ravel().tolist()],
                "score": scores.ravel().astype(np.float64),
                "reason": pl.Series(["because"] * (count * K), dtype=pl.String),
                "reason_product_id": pl.Series([None] * (count * K), dtype=pl.String),
            }
        )
        default = frame.head(K).with_columns(pl.lit(DEFAULT_USER).alias("user_id"))
        yield shard, pl.concat([default, frame]) if shard == 0 else frame, count


def score(url: str, users: int, *, say: Callable[[Any], None]) -> None:
    """Score, write, finish and publish; say the highest resident memory after each step."""
    with Store.open(url) as store:
        store.init()
        stock(store)
        with store.begin_run("recommend", RunManifest("m", "d", "c", {"users": users})) as run:
            for shard, frame, count in lists(users):
                run.write_shard(shard, frame, n_users=count)
            say(peak_mb())
            run.finish({"users": users})
            store.publish(run.run_id, guards=GUARDS, expected_users=users)
        say(peak_mb())
