"""A small shop's rows, a run to write, and the promises that hold of a store at any time.

In: a store. Out: frames, finished runs, `invariants`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import sqlalchemy as sa

from recsys.db.engine import read_frame
from recsys.store.input_tables import write_inputs
from recsys.store.run_ledger import RunManifest
from recsys.store.run_writer import RunWriter
from recsys.store.store import Store
from tests.faults.invariants import check
from tests.faults.invariants import held as rows_held

MANIFEST = RunManifest("model", "data", "config", {"k": 2})
NO_REJECTS = pl.DataFrame(
    schema={
        "source": pl.String,
        "row_no": pl.Int64,
        "table_name": pl.String,
        "code": pl.String,
        "column_name": pl.String,
        "value_excerpt": pl.String,
        "row_json": pl.String,
    }
)
SHARDS = 12
USERS_IN_SHARD = 5
K = 3


def products(**changes: Any) -> pl.DataFrame:
    columns = {
        "product_id": ["a", "b", "c", "gone"],
        "title": ["Apple", "Bread", None, "Old"],
        "available": [True, None, True, False],
        "attributes": ['{"size": "S", "weight": 2}', None, "{}", None],
        "content_hash": ["1", "2", "3", "4"],
        "created_at": [0, None, 1_700_000_000, 5],
    }
    kinds = {"available": pl.Boolean, "created_at": pl.Int64}
    return pl.DataFrame({**columns, **changes}, schema_overrides=kinds)


def stock(store: Store) -> None:
    """Put the products into the store."""
    write_inputs(store, {"products": products()}, NO_REJECTS, sources=["products.csv"])


def lists(**chosen: list[tuple[str, float]]) -> pl.DataFrame:
    """Rows of lists: user=[(product, score), ...], ranks in that order; `default=` is the list of `__default__`."""
    out = [
        ("__default__" if user == "default" else user, rank, product, score, "popular", None)
        for user, items in chosen.items()
        for rank, (product, score) in enumerate(items, start=1)
    ]
    names = ("user_id", "rank", "product_id", "score", "reason", "reason_product_id")
    kinds = (pl.String, pl.Int32, pl.String, pl.Float64, pl.String, pl.String)
    return pl.DataFrame(out, schema=dict(zip(names, kinds, strict=True)), orient="row")


GOOD = lists(u1=[("a", 0.9), ("b", 0.5)], u2=[("b", 0.4)], default=[("a", 0.1)])


def finished(
    store: Store, frame: pl.DataFrame = GOOD, *, users: int = 2, manifest: RunManifest = MANIFEST
) -> RunWriter:
    """A run that is ready to be published."""
    with store.begin_run("recommend", manifest) as run:
        run.write_shard(0, frame, n_users=users)
        run.finish({"users": users})
    return run


def shard(number: int, version: str) -> pl.DataFrame:
    """The rows of one shard of a larger run; shard 0 holds the default list too."""
    names = [f"u{number * USERS_IN_SHARD + place:03d}" for place in range(USERS_IN_SHARD)]
    wanted = {name: [(("a", "b", "c")[rank], 1.0 / (rank + len(version))) for rank in range(K)] for name in names}
    return lists(**wanted, **({"default": [("c", 0.0)]} if number == 0 else {}))


def night(store: Store, version: str, *, say: Callable[[str], None] = print) -> str:
    """One whole night: begin or resume, write what is missing, finish, publish, prune; `say` hears of every step."""
    with store.begin_run("recommend", RunManifest(version, "data", "config")) as run:
        for number in range(SHARDS):
            run.write_shard(number, shard(number, version), n_users=USERS_IN_SHARD)
            say(f"shard {number}")
        run.finish({"users": SHARDS * USERS_IN_SHARD})
        say("ready")
        store.publish(run.run_id)
        say("published")
    store.prune(2)
    return run.run_id


def table(store: Store, name: str, *, without: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a table, sorted, as plain values that compare between databases."""
    frame = read_frame(store.engine, f'SELECT * FROM "{name}"')
    texts = frame.drop(*without).select(pl.all().map_elements(str, return_dtype=pl.String, skip_nulls=True))
    return sorted(texts.rows(), key=str)


def invariants(store: Store) -> None:
    """I1 to I5 of a store, whatever was done to it."""
    check(store.engine.url.render_as_string(hide_password=False))


def held(store: Store, name: str = "recommendations_all") -> dict[str, int]:
    """Rows of each run that has any, or a place for them, wherever the database keeps them."""
    return rows_held(store.engine, name)


def execute(store: Store, statement: str, **values: Any) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text(statement), values)
