"""A whole night's lists for everybody, end to end: score, rules, reasons, write, publish; the share of each stage.

In: sizes. Out: a table; with --json one line of JSON. The shop is made up: products as in embed_shop.py, users with a
taste for a few categories. Models are trained on the first users, for one pass: how good they are does not matter
here, what they cost does. There is no peer that does all of it.

    python benchmarks/all_users.py --users 1000000 --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from embed_shop import products
from telling import answered, machine, say

from recsys.config import Settings, read
from recsys.db.engine import read_frame as rows_of
from recsys.execution.progress import peak_mb
from recsys.pipeline import embed as space
from recsys.pipeline import recommend as lists
from recsys.pipeline import train as training
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project

BLOCK = 200_000
START, DAYS, DAY = 1_700_000_000, 90, 86_400
OWN = 0.7
"""Share of a user's events in the two categories the user likes."""
SETTINGS: dict[str, Any] = {"training.epochs": 1, "training.user_epochs": 1, "encoder.vocabulary": 2000}
QUICK: dict[str, Any] = {"encoder.dim": 16, "encoder.width": 16, "training.min_steps": 4}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--events", type=float, default=6, help="of a user, on average")
    parser.add_argument("-k", type=int, default=20, help="length of the lists")
    parser.add_argument("--learn", type=int, default=20_000, help="users the models are trained on")
    parser.add_argument("--engine", choices=("local", "processes"), default="local")
    parser.add_argument("--database", help="URL of an empty store; default: SQLite in the folder")
    parser.add_argument("--work", type=Path, help="folder for the project; one that is there is used again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("recsys",), help="there is no peer that does all of it; changes nothing")
    parser.add_argument("--quick", action="store_true", help="120 users, 60 products")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def events(users: range, frame: pl.DataFrame, *, mean: float, seed: int) -> pl.DataFrame:
    """Events of some users: half of a category's sales go to a tenth of its products."""
    g = np.random.default_rng((seed, users.start))
    kind = frame["category"].rank("dense").to_numpy().astype(np.int64) - 1
    order = np.argsort(kind, kind="stable")
    starts = np.searchsorted(kind[order], np.arange(kind.max() + 2))
    length = 1 + g.poisson(mean - 1, len(users))
    owner = np.repeat(np.arange(len(users)), length)
    likes = g.integers(kind.max() + 1, size=(len(users), 2))
    liked = likes[owner, g.integers(2, size=len(owner))]
    category = np.where(g.random(len(owner)) < OWN, liked, g.integers(kind.max() + 1, size=len(owner)))
    width = starts[category + 1] - starts[category]
    place = np.minimum((g.random(len(owner)) ** 3 * width).astype(np.int64), width - 1)
    return pl.DataFrame(
        {
            "user_id": [f"u{row:08d}" for row in (owner + users.start).tolist()],
            "product_id": frame["product_id"].gather(order[starts[category] + place]),
            "event_type": "purchase",
            "occurred_at": START + g.integers(DAYS * DAY, size=len(owner)),
        }
    )


def shop(asked: argparse.Namespace, folder: Path) -> Settings:
    """The project, trained and with all users' events."""
    values = {
        **SETTINGS,
        **(QUICK if asked.quick else {}),
        "recommend.k": asked.k,
        "recommend.engine": asked.engine,
        "training.seed": asked.seed,
    }
    if asked.database:
        values["database.url"] = asked.database
    if (folder / "done").exists():
        return read(folder, flags=values).settings
    init_project(folder, values=values)
    settings = read(folder, flags=values).settings
    goods = products(asked.products, asked.seed)
    first = min(asked.learn, asked.users)
    with Project(settings) as bench:
        of_users = range(first)
        ingest(
            bench, IngestRequest.from_options([], frames={"products": goods, "events": drawn(asked, of_users, goods)})
        )
        bench.reload()
        say(f"training on {first:,} users")
        training.train(bench)
        space.embed_products(bench)
        for start in range(first, asked.users, BLOCK):
            of_users = range(start, min(start + BLOCK, asked.users))
            say(f"taking in the events of users {of_users.start:,} to {of_users.stop:,}")
            ingest(bench, IngestRequest.from_options([], frames={"events": drawn(asked, of_users, goods)}))
    (folder / "done").touch()
    return settings


def drawn(asked: argparse.Namespace, users: range, goods: pl.DataFrame) -> pl.DataFrame:
    return events(users, goods, mean=asked.events, seed=asked.seed)


def night(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One night's figures."""
    settings = shop(asked, folder)
    say(f"lists for {asked.users:,} users")
    started = time.perf_counter()
    with Project(settings) as bench:
        report = lists.recommend(bench, lists.RecommendOptions(resume=False))
        whole = time.perf_counter() - started
        seconds = bench.progress.seconds
        metrics = bench.store.run(str(report.run_id))["metrics"]
        rows = rows_of(bench.store.engine, "SELECT COUNT(*) AS n FROM recommendations")["n"][0]
    making = metrics["making"]
    return {
        "night_s": whole,
        "users_per_s": asked.users / whole,
        "rows": float(rows),
        "peak_mb": max(peak_mb(), making["worker_peak_mb"]),
        "lists_score_s": making["score_seconds"],
        "lists_write_s": making["write_seconds"],
        **{f"{name.replace(' ', '_')}_s": value for name, value in seconds.items()},
    }


def measured(asked: argparse.Namespace, folder: Path) -> int:
    if asked.quick:
        asked.users, asked.products, asked.learn = 120, 60, 80
    figures = night(asked, folder)
    for name, value in figures.items():
        print(f"{name:<24}{value:>16,.1f}")
    if asked.json:
        rows = [{"system": "recsys", "metric": name, "value": value} for name, value in figures.items()]
        print(json.dumps({"benchmark": "all_users", "users": asked.users, "rows": rows, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(answered("all_users", measured, arguments()))
