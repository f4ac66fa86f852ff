"""The raw ways of writing lists, each as fast as it is known to go, without ledger, resuming or publishing.

In: a frame of lists in the order of the key, an empty database. Out: seconds until rows and key are in place.
Turning columns into what the driver takes counts; preparing numpy's text columns for the record array does not.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

COLUMNS = ("run_id", "placement", "user_id", "rank", "product_id", "score", "reason", "reason_product_id")
KEY = "run_id, placement, user_id, rank"
_TYPES = ("TEXT", "TEXT", "TEXT", "INTEGER", "TEXT", "FLOAT", "TEXT", "TEXT")
_NAMES = ", ".join(COLUMNS)
_PEER = Path(__file__).with_name("writeback_peer.py")


def table(kind: str, collation: str = "") -> str:
    """CREATE TABLE without a key."""
    typed = (f"{name} {sql}{collation if sql == kind else ''}" for name, sql in zip(COLUMNS, _TYPES, strict=True))
    return ", ".join(f"{column} NOT NULL" if column.split()[0] in KEY.split(", ") else column for column in typed)


def sqlite_table(path: Path) -> sqlite3.Connection:
    """A new file in WAL mode with the table and its key."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -65536"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"CREATE TABLE recommendations_all ({table('')}, PRIMARY KEY ({KEY})) WITHOUT ROWID")
    return connection


def executemany(path: Path, frame: pl.DataFrame) -> float:
    """sqlite3, one row a statement, one transaction."""
    return _sqlite(path, lambda: frame.iter_rows(buffer_size=10_000), 1)


def values_of_100(path: Path, frame: pl.DataFrame) -> float:
    """sqlite3, a hundred rows a statement, one transaction."""
    rest = frame.height % 100

    def together() -> Iterator[tuple[Any, ...]]:
        rows = frame.head(frame.height - rest).iter_rows(buffer_size=10_000)
        return (tuple(chain.from_iterable(group)) for group in zip(*[rows] * 100, strict=True))

    return _sqlite(path, together, 100, frame.tail(rest))


def _sqlite(
    path: Path, rows: Callable[[], Iterator[tuple[Any, ...]]], many: int, rest: pl.DataFrame | None = None
) -> float:
    connection = sqlite_table(path)
    one = f"({', '.join('?' * len(COLUMNS))})"
    insert = f"INSERT INTO recommendations_all ({_NAMES}) VALUES "  # noqa: S608 - our own names
    started = time.perf_counter()
    connection.execute("BEGIN")
    connection.executemany(insert + ", ".join([one] * many), rows())
    if rest is not None:
        connection.executemany(insert + one, rest.rows())
    connection.execute("COMMIT")
    spent = time.perf_counter() - started
    connection.close()
    return spent


class Adbc:
    """polars with ADBC in the environment of the peers, waiting between turns.

    Raises:
        OSError: it does not start; the message is what it said last.
    """

    def __init__(self, python: Path, folder: Path, frame: pl.DataFrame) -> None:
        file = folder / "frame.parquet"
        frame.write_parquet(file)
        self._log = (folder / "peer.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(_PEER), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.versions: dict[str, str] = self._answer()["versions"]

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"ended with {self._process.wait()}: {last}")

    def write(self, path: Path) -> float:
        """Append the frame to an empty table with its key."""
        sqlite_table(path).close()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()
        self._log.close()


Arrays = dict[str, npt.NDArray[Any]]


def arrays_of(frame: pl.DataFrame) -> Arrays:
    """The columns as numpy holds them at its best: texts of one width, numbers."""
    return {
        name: np.asarray(frame[name].to_list(), dtype="S")
        if frame.schema[name] == pl.String
        else frame[name].to_numpy()
        for name in frame.columns
    }


def copy_records(url: str, columns: Arrays) -> float:
    """COPY of one binary numpy record array into a table without a key, then ADD PRIMARY KEY."""
    started = time.perf_counter()
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, column in columns.items():
        kind = {"S": f"S{column.dtype.itemsize}", "i": ">i4", "f": ">f8"}[column.dtype.kind]
        layout += [(f"{name} length", ">i4"), (name, kind)]
    records = np.empty(len(columns["rank"]), dtype=layout)
    records["fields"] = len(columns)
    for name, column in columns.items():
        records[f"{name} length"] = records.dtype[name].itemsize
        records[name] = column
    before = time.perf_counter() - started
    head = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
    parts = (head, records.view("u1").data, b"\xff\xff")
    return before + _copy(url, lambda copy: [copy.write(part) for part in parts])


def multi_row_values(socket: Path, frame: pl.DataFrame) -> float:
    """pymysql, a thousand rows a statement, into a table with its key, one transaction."""
    import pymysql

    typed = table("TEXT").replace("TEXT", "VARCHAR(190)").replace("FLOAT", "DOUBLE").replace("rank ", "`rank` ")
    names, key = (text.replace("rank", "`rank`") for text in (_NAMES, KEY))
    values = f"({', '.join(['%s'] * len(COLUMNS))})"
    insert = f"INSERT INTO raw ({names}) VALUES "  # noqa: S608 - our own names
    with pymysql.connect(unix_socket=str(socket), user="root", database="turn") as connection:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS raw")
            cursor.execute(f"CREATE TABLE raw ({typed}, PRIMARY KEY ({key})) COLLATE utf8mb4_nopad_bin")
            started = time.perf_counter()
            for start in range(0, frame.height, 1000):
                rows = frame.slice(start, 1000).rows()
                cursor.execute(insert + ", ".join([values] * len(rows)), tuple(chain.from_iterable(rows)))
            connection.commit()
            return time.perf_counter() - started


def write_row(url: str, frame: pl.DataFrame) -> float:
    """COPY of psycopg's binary rows into a table without a key, then ADD PRIMARY KEY."""

    def fill(copy: Any) -> None:
        copy.set_types(["text", "text", "text", "int4", "text", "float8", "text", "text"])
        for row in frame.iter_rows(buffer_size=10_000):
            copy.write_row(row)

    return _copy(url, fill)


def _copy(url: str, fill: Callable[[Any], object]) -> float:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS raw")
        typed = table("TEXT", ' COLLATE "C"').replace("FLOAT", "FLOAT8")
        connection.execute(f"CREATE TABLE raw ({typed})")
        connection.commit()
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy(f"COPY raw ({_NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
            fill(copy)
        connection.execute(f"ALTER TABLE raw ADD PRIMARY KEY ({KEY})")
        connection.commit()
        return time.perf_counter() - started
