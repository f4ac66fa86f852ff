"""How fast lists get into a database, key in place, beside the raw ways; and whether readers notice a publication.

In: nothing but sizes. Out: a table; with --json one line of JSON at the end.

    python benchmarks/writeback.py --peers PYTHON          rows a second, in turns, medians of --rounds
    python benchmarks/writeback.py --readers               stalls of readers during publications and rollbacks

Ours is a whole run: begin, shards each with a ledger line in one transaction, key, ready to be published. The peers'
interpreter needs polars, pyarrow and adbc-driver-sqlite. PostgreSQL comes from the dev extra, MariaDB from the system.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pymysql
import servers
import writeback_raw as raw
import writeback_readers
from telling import machine, say

from recsys.errors import RecsysError
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store

K = 20
SHARD = 100_000
"""Rows of a shard: 5,000 users."""
_UNSYNCED = ("--innodb-flush-log-at-trx-commit=0",)
Ways = dict[str, Callable[[], float]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows to write")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--databases", default="sqlite,postgresql,mariadb", help="which, with commas between")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="interpreter that has polars and ADBC")
    parser.add_argument("--readers", action="store_true", help="measure readers instead of writers")
    parser.add_argument("--seconds", type=float, default=30, help="how long the open transaction of --readers lasts")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where databases are written; default: thrown away")
    parser.add_argument("--only", choices=["recsys"], help="leave out the raw ways")
    parser.add_argument(
        "--quick", action="store_true", help="4,000 rows, one turn, nothing synced; two seconds of readers"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def lists(rows: int) -> pl.DataFrame:
    """Lists of 20 in the order of users; each text column of one width, as a record array wants it."""
    dice, n = np.random.default_rng(0), max(1, rows // K) * K
    products = pl.Series([f"p{product:06d}" for product in range(100_000)])
    drawn = dice.integers(0, 100_000, (2, n))
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u{user:08d}" for user in range(n // K)])[np.arange(n) // K],
            "rank": (np.arange(n) % K + 1).astype(np.int32),
            "product_id": products[drawn[0]],
            "score": dice.random(n),
            "reason": pl.Series(["co_purchase", "popular_now", "like_viewed"])[dice.integers(0, 3, n)],
            "reason_product_id": products[drawn[1]],
        }
    )


def ours(url: str, frame: pl.DataFrame) -> float:
    """Seconds of a whole run, from begin to ready."""
    with Store.open(url) as store:
        store.init()
        started = time.perf_counter()
        with store.begin_run("recommend", RunManifest("model", "data", "config"), resume=False) as run:
            for shard, start in enumerate(range(0, frame.height, SHARD)):
                rows = frame.slice(start, SHARD)
                run.write_shard(shard, rows, n_users=rows.height // K)
            run.finish({"users": frame.height // K})
        spent = time.perf_counter() - started
        assert store.run(run.run_id)["rows_written"] == frame.height
        return spent


def emptied(folder: Path) -> Path:
    for old in folder.glob("turn.db*"):
        old.unlink()
    return folder / "turn.db"


@contextmanager
def sqlite(asked: argparse.Namespace, folder: Path, frame: pl.DataFrame, facts: dict[str, Any]) -> Iterator[Ways]:
    """The ways into SQLite."""
    whole = with_run(frame)
    ways: Ways = {"recsys": lambda: ours(f"sqlite:///{emptied(folder)}", frame)}
    if asked.only:
        yield ways
        return
    ways["executemany"] = lambda: raw.executemany(emptied(folder), whole)
    ways["executemany, 100-row VALUES"] = lambda: raw.values_of_100(emptied(folder), whole)
    adbc = None
    try:
        if asked.peers:
            adbc = raw.Adbc(asked.peers, folder, whole)
            facts["versions"] = adbc.versions
            ways["polars ADBC"] = lambda: adbc.write(emptied(folder))
        else:
            say("polars with ADBC left out: name its interpreter with --peers")
    except OSError as error:
        say(f"polars with ADBC left out: {error}")
    try:
        yield ways
    finally:
        if adbc:
            adbc.close()


@contextmanager
def postgresql(asked: argparse.Namespace, _: Path, frame: pl.DataFrame, facts: dict[str, Any]) -> Iterator[Ways]:
    """The ways into PostgreSQL."""
    with servers.postgres(synced=not asked.quick) as url:
        with psycopg.connect(url) as connection:
            facts["postgresql"] = connection.info.server_version
        uneven = frame.with_columns(
            product_id=pl.col("product_id").str.strip_chars_start("p").str.strip_chars_start("0")
        )
        ways: Ways = {
            "recsys": lambda: ours(fresh(url), frame),
            "recsys, ids of many widths": lambda: ours(fresh(url), uneven),
        }
        if not asked.only:
            whole = with_run(frame)
            columns = raw.arrays_of(whole)
            ways["COPY numpy records + ADD PRIMARY KEY"] = lambda: raw.copy_records(url, columns)
            ways["COPY write_row + ADD PRIMARY KEY"] = lambda: raw.write_row(url, whole)
        yield ways


@contextmanager
def mariadb(asked: argparse.Namespace, _: Path, frame: pl.DataFrame, facts: dict[str, Any]) -> Iterator[Ways]:
    """The ways into MariaDB."""
    with servers.mariadb("--innodb-buffer-pool-size=1G", *_UNSYNCED[: asked.quick]) as socket:
        with pymysql.connect(unix_socket=str(socket), user="root") as connection:
            facts["mariadb"] = connection.get_server_info()

        def emptied_too() -> str:
            with pymysql.connect(unix_socket=str(socket), user="root") as connection, connection.cursor() as cursor:
                cursor.execute("DROP DATABASE IF EXISTS turn")
                cursor.execute("CREATE DATABASE turn CHARACTER SET utf8mb4")
            return f"mysql+pymysql://root@localhost/turn?unix_socket={socket}"

        ways: Ways = {"recsys": lambda: ours(emptied_too(), frame)}
        if not asked.only:
            whole = with_run(frame)
            ways["multi-row VALUES"] = lambda: raw.multi_row_values(socket, whole)
        yield ways


def fresh(url: str) -> str:
    """A new database on the server, in the place of the last turn's."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS turn WITH (FORCE)")
        connection.execute("CREATE DATABASE turn")
        connection.execute("CHECKPOINT")
    return url.replace("/postgres?", "/turn?")


DATABASES = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mariadb}


def with_run(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows as the table holds them."""
    own = (pl.lit("20260101T000000000").alias("run_id"), pl.lit("default").alias("placement"))
    return frame.with_columns(own).select(raw.COLUMNS)


def in_turns(ways: Ways, rounds: int, name: str) -> dict[str, list[float]]:
    """Seconds of each way; before several turns there is one to warm up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    turns = [0] * (rounds > 1) + list(range(1, rounds + 1))
    for turn in turns:
        say(f"{name}, turn {turn} of {rounds}" if turn else f"{name}, warm up")
        for way, write in ways.items():
            spent = write()
            if turn:
                seconds[way].append(spent)
    return seconds


def speeds(asked: argparse.Namespace, folder: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each way into each database that is here."""
    frame, out = lists(4_000 if asked.quick else asked.rows), []
    facts["rows"] = frame.height
    for name in asked.databases.split(","):
        try:
            with DATABASES[name](asked, folder, frame, facts) as ways:
                for way, seconds in in_turns(ways, 1 if asked.quick else asked.rounds, name).items():
                    rate = frame.height / np.array(seconds)
                    low, value, high = (round(float(each)) for each in (rate.min(), np.median(rate), rate.max()))
                    row = {"system": way, "metric": "rows_per_s", "value": value, "low": low, "high": high}
                    out.append({**row, "slice": name})
        except servers.NoServerError as error:
            say(f"{name} left out: {error}")
    return out


def main() -> int:
    asked = arguments()
    unknown = [name for name in asked.databases.split(",") if name not in DATABASES]
    if unknown:
        print(f"writeback: no database {unknown[0]!r}; choose from {', '.join(DATABASES)}", file=sys.stderr)
        return 2
    facts: dict[str, Any] = {"rounds": 1 if asked.quick else asked.rounds}
    with ExitStack() as held:
        folder = asked.work or Path(held.enter_context(tempfile.TemporaryDirectory()))
        try:
            rows = writeback_readers.measured(asked, facts) if asked.readers else speeds(asked, folder, facts)
        except (RecsysError, servers.NoServerError) as error:
            print(f"writeback: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, RecsysError) else 2
    own = {(row["metric"], row["slice"]): row["value"] for row in rows if row["system"] == "recsys"}
    ratios = {
        f"{row['slice']} recsys / {row['system']}": round(own[row["metric"], row["slice"]] / row["value"], 3)
        for row in rows
        if row["system"] != "recsys"
    }
    for row in rows:
        print(f"{row['slice']:26s} {row['system']:38s} {row['metric']:16s} {row['value']:12,.6g}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if asked.json:
        shown = {"benchmark": "writeback", "quick": asked.quick, "rows": rows, "ratios": ratios, "facts": facts}
        print(json.dumps({**shown, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
