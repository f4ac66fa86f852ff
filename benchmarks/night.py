"""An incremental night beside a full one: the same rows, and how long each takes.

In: a project folder with trained models (`--project`; it is copied, SQLite only), or a shop drawn for the purpose.
Out: a table; with --json one line. The last day of events is held back, the lists made (the basis), the day put back.
Then, in turns: only the lists the day changed (`incremental`); all lists from the same basis (`everybody`), whose rows
must be equal, else the exit code is 1; all lists with what the day has taught (`full`). The share of products that
`incremental` and `full` have in common says what it costs to learn only at every full run.

    python benchmarks/night.py --project hm-shop --json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from telling import answered, machine, say

from recsys.config import Settings, read
from recsys.data.demo import generate_shop
from recsys.db.engine import connect
from recsys.db.engine import read_frame as rows_of
from recsys.errors import UsageError
from recsys.pipeline import embed as space
from recsys.pipeline import ingest as intake
from recsys.pipeline import recommend as lists
from recsys.pipeline import train as training
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project
from recsys.store import tables

DAY = 86_400
QUICK = {
    "encoder.dim": 16,
    "encoder.width": 16,
    "training.epochs": 1,
    "training.user_epochs": 1,
    "training.min_steps": 4,
}
WAYS: dict[str, dict[str, bool]] = {"incremental": {}, "everybody": {"all_users": True}, "full": {"full": True}}
LISTS = """SELECT user_id, rank, product_id, score, reason, reason_product_id FROM recommendations
  WHERE placement = :placement ORDER BY user_id, rank"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, help="a project with trained models on SQLite; without it one is drawn")
    parser.add_argument("--products", type=int, default=2000, help="of the shop that is drawn")
    parser.add_argument("--users", type=int, default=10_000, help="of the shop that is drawn")
    parser.add_argument("--engine", choices=("local", "processes", "ray"), default="local")
    parser.add_argument("--rounds", type=int, default=5, help="nights of each kind; their median counts")
    parser.add_argument("--work", type=Path, help="folder for the copies; default: one that is thrown away")
    parser.add_argument("--only", choices=("recsys",), help="there is no peer with incremental runs; changes nothing")
    parser.add_argument("--quick", action="store_true", help="a small shop, one round")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    return parser.parse_args()


def shop(asked: argparse.Namespace, folder: Path) -> None:
    """The project in `folder`: a copy of the one that was named, or a new one with models."""
    if asked.project is not None:
        shutil.copytree(asked.project, folder, dirs_exist_ok=True)
        return
    say(f"drawing {asked.products:,} products and {asked.users:,} users")
    generate_shop(folder / "drawn", products=asked.products, users=asked.users, seed=0)
    init_project(folder, values=QUICK if asked.quick else {})
    with Project(read(folder).settings) as bench:
        intake.ingest(bench, intake.IngestRequest.from_options([folder / "drawn"]))
        bench.reload()
        training.train(bench)
        space.embed_products(bench)


def settings_of(folder: Path, asked: argparse.Namespace) -> Settings:
    flags = {"recommend.incremental": True, "recommend.engine": asked.engine}
    settings = read(folder, flags=flags).settings
    if not settings.database_url.startswith("sqlite"):
        raise UsageError(f"{folder} is not on SQLite; this benchmark copies the database's file")
    return settings


def held_back(settings: Settings) -> list[dict[str, Any]]:
    """Take the last day's events out of the store and give them back as rows."""
    events = tables.metadata.tables["events"]
    engine = connect(settings.database_url)
    with engine.begin() as connection:
        newest = connection.execute(sa.select(sa.func.max(events.c.occurred_at))).scalar_one()
        day = newest.replace(hour=0, minute=0, second=0, microsecond=0)
        late = events.c.occurred_at >= day
        rows = [dict(row) for row in connection.execute(sa.select(events).where(late)).mappings()]
        connection.execute(sa.delete(events).where(late))
    engine.dispose()
    return rows


def put_back(settings: Settings, rows: list[dict[str, Any]]) -> None:
    engine = connect(settings.database_url)
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.metadata.tables["events"]), rows)
    engine.dispose()


def night(settings: Settings, way: dict[str, bool]) -> tuple[dict[str, float], pl.DataFrame]:
    """One run: its figures and its rows."""
    started = time.perf_counter()
    with Project(settings) as bench:
        report = lists.recommend(bench, lists.RecommendOptions(**way))
        figures = {
            "night_s": time.perf_counter() - started,
            "lists_s": bench.progress.seconds["recommend"],
            "lists_made": float(report.counts["lists_made"]),
            "lists_kept": float(report.counts["lists_kept"]),
        }
        made = rows_of(bench.store.engine, LISTS, params={"placement": settings.recommend.placement})
    return figures, made


def measured(asked: argparse.Namespace, work: Path) -> int:
    if asked.quick:
        asked.products, asked.users, asked.rounds = 60, 60, 1
    shop(asked, work / "shop")
    settings = settings_of(work / "shop", asked)
    day = held_back(settings)
    say(f"{len(day):,} events of the last day are held back; the lists of the day before are made")
    basis, _ = night(settings, {"full": True})
    put_back(settings, day)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    rows: dict[str, pl.DataFrame] = {}
    for turn in range(asked.rounds):
        for name, way in WAYS.items():
            say(f"round {turn + 1} of {asked.rounds}: {name}")
            shutil.copytree(work / "shop", work / "twin")
            figures, made = night(settings_of(work / "twin", asked), way)
            shutil.rmtree(work / "twin")
            found[name].append(figures)
            if name in rows and not made.equals(rows[name]):
                print(f"night: {name}: two runs of the same data differ", file=sys.stderr)
                return 1
            rows[name] = made
    equal = rows["incremental"].equals(rows["everybody"])
    told = table(found, equal=equal, common=shared(rows["incremental"], rows["full"]), day=len(day))
    for row in told:
        print(f"{row['slice']:12s} {row['metric']:18s} {row['value']:>14,.4g} [{row['low']:,.4g}, {row['high']:,.4g}]")
    if asked.json:
        ratios = {
            f"{metric} everybody / incremental": round(
                median(one[metric] for one in found["everybody"]) / median(one[metric] for one in found["incremental"]),
                2,
            )
            for metric in ("night_s", "lists_s")
        }
        digest = hashlib.sha256(rows["incremental"].write_csv().encode()).hexdigest()[:16]
        shown = {"project": asked.project.name if asked.project else None, "rows_sha256": digest}
        shown |= {"engine": asked.engine, "quick": asked.quick, "rounds": asked.rounds, "basis": basis}
        print(json.dumps({"benchmark": "night", **shown, "rows": told, "ratios": ratios, "machine": machine()}))
    return 0 if equal else 1


def table(found: dict[str, list[dict[str, float]]], *, equal: bool, common: float, day: int) -> list[dict[str, Any]]:
    """One row a figure: the median over the rounds, the least and the most."""
    rows = [
        ("incremental", "rows_equal", [float(equal)]),
        ("incremental", "products_as_full", [common]),
        ("all", "events_of_the_day", [float(day)]),
        *((name, metric, [one[metric] for one in runs]) for name, runs in found.items() for metric in runs[0]),
    ]
    out = []
    for name, metric, values in rows:
        figures = {"value": median(values), "low": min(values), "high": max(values)}
        out.append({"system": "recsys", "metric": metric, **figures, "slice": name})
    return out


def shared(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """Mean share of a user's products that stand in both lists."""
    keys = ["user_id", "product_id"]
    both = one.join(other, on=keys, how="semi").group_by("user_id").len().rename({"len": "both"})
    every = one.group_by("user_id").len().join(both, on="user_id", how="left").fill_null(0)
    return float(np.mean((every["both"] / every["len"]).to_numpy())) if every.height else 0.0


if __name__ == "__main__":
    asked = arguments()
    sys.exit(answered("night", measured, asked))
