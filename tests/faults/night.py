"""A whole night of the real store with a stub in the scorer's place: the same version gives the same rows everywhere.

In: an open store and a version. Out: inputs, lists, groups and vectors written, published through the guards, pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import polars as pl

from recsys.config import PublishSettings
from recsys.data.schema import DEFAULT_USER
from recsys.db.engine import fetch_rows
from recsys.store.background_writer import BackgroundWriter
from recsys.store.input_tables import write_inputs
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.faults.invariants import LISTS
from tests.store.samples import NO_REJECTS

PRODUCTS = [f"p{number:02d}" for number in range(20)]
SHARDS, USERS_IN_SHARD = 6, 6
USERS = SHARDS * USERS_IN_SHARD
KEEP = 2
GUARDS = PublishSettings(keep_runs=KEEP)
STEPS = SHARDS + 6
"""How often a night speaks."""


def stock(store: Store, version: str = "a") -> None:
    """Write the products as they are in a version."""
    frame = pl.DataFrame(
        {
            "product_id": PRODUCTS,
            "title": [f"{name} {version}" for name in PRODUCTS],
            "available": [True] * len(PRODUCTS),
            "content_hash": [f"{name}{version}" for name in PRODUCTS],
        }
    )
    write_inputs(store, {"products": frame}, NO_REJECTS, sources=["products.csv"])


def scored(shard: int, version: str, *, users: int = USERS_IN_SHARD) -> pl.DataFrame:
    """The rows of a shard: every version has lists of its own length, and every user's differ between versions."""
    names = [f"u{shard * users + place:04d}" for place in range(users)]
    k = 3 + len(version)
    out = []
    for name in [*([DEFAULT_USER] if shard == 0 else []), *names]:
        dice = Random(f"{version}/{name}")
        scores = sorted((dice.random() for _ in range(k)), reverse=True)
        chosen = dice.sample(PRODUCTS, k)
        out += [
            (name, rank, item, score, version, None)
            for rank, (item, score) in enumerate(zip(chosen, scores, strict=True), 1)
        ]
    names = ("user_id", "rank", "product_id", "score", "reason", "reason_product_id")
    kinds = (pl.String, pl.Int32, pl.String, pl.Float64, pl.String, pl.String)
    return pl.DataFrame(out, schema=dict(zip(names, kinds, strict=True)), orient="row")


def _quiet(_: str) -> None:
    return


def manifest(version: str) -> RunManifest:
    """What decides the lists of a version."""
    return RunManifest(version, "data", "config", {"k": 3 + len(version)})


def recommend(store: Store, version: str, *, say: Callable[[str], None] = _quiet) -> str:
    """Begin or go on, write what is missing, finish, publish through the guards; return the run's id."""
    with store.begin_run("recommend", manifest(version)) as run:
        say("begun")
        with BackgroundWriter(run) as writer:
            for shard in range(SHARDS):
                if shard not in run.finished_shards:
                    writer.write(shard, scored(shard, version), n_users=USERS_IN_SHARD)
                say(f"shard {shard}")
        run.finish({"users": USERS})
        say("ready")
        store.publish(run.run_id, guards=GUARDS, expected_users=USERS)
        say("published")
    return run.run_id


def group(store: Store, version: str) -> None:
    """Write and publish groups of products."""
    groups = pl.DataFrame({"cluster_id": [0, 1], "label": [version, "rest"], "size": [10, 10], "terms": ["[]", "[]"]})
    members = pl.DataFrame(
        {"product_id": PRODUCTS, "cluster_id": [at % 2 for at in range(20)], "distance": [len(version) / 10] * 20}
    )
    with store.begin_run("cluster", RunManifest(version, "data", "config"), placement="clusters") as run:
        run.write_table("clusters_all", groups)
        run.write_table("cluster_members_all", members)
        run.finish({"products": len(PRODUCTS)})
        store.publish(run.run_id, guards=GUARDS)


def embed(store: Store, version: str) -> None:
    """Write vectors of the products."""
    vectors = np.random.default_rng(len(version)).normal(size=(len(PRODUCTS), 4)).astype(np.float32)
    store.write_embeddings(PRODUCTS, vectors, version, np.arange(len(PRODUCTS), dtype=np.uint64))


def night(store: Store, version: str, *, say: Callable[[str], None] = _quiet) -> str:
    """The whole night; `say` hears of every step."""
    store.init()
    stock(store, version)
    say("stocked")
    embed(store, version)
    group(store, version)
    say("grouped")
    run_id = recommend(store, version, say=say)
    store.prune(KEEP)
    say("pruned")
    return run_id


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """What a night writes, without what names the run or the moment, for comparing two stores row by row."""
    queries = {
        "lists": LISTS,
        "groups": "SELECT product_id, cluster_id, distance FROM product_clusters ORDER BY 1",
        "labels": "SELECT cluster_id, label, size FROM cluster_labels ORDER BY 1",
        "products": "SELECT product_id, title, content_hash FROM products ORDER BY 1",
        "vectors": "SELECT product_id, model_version, content_hash, dim, vector FROM product_embeddings ORDER BY 1",
        "shards": "SELECT s.shard_id, s.n_users, s.n_rows, s.checksum FROM run_shards s "
        "JOIN publications p ON p.run_id = s.run_id ORDER BY 1",
    }
    return {
        name: [tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row) for row in found]
        for name, query in queries.items()
        for found in [fetch_rows(store.engine, query, {})]
    }
