from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("only", [["--only", "recsys"], []])
def test_it_ends_with_one_line_of_json(postgres_url: str, only: list[str]) -> None:
    command = [sys.executable, "benchmarks/intake.py", "--quick", "--json", "--postgresql", postgres_url, *only]
    if not only:
        command[command.index("--quick")] = "--events=50"
        command.append("--rounds=1")
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    value = {(row["slice"], row["system"], row["metric"]): row["value"] for row in last["rows"]}
    assert all(row["low"] <= row["value"] <= row["high"] for row in last["rows"])
    systems = {"recsys", "recsys :since"} | (set() if only else {"polars.read_database", "psycopg fetchall"})
    assert {system for part, system, _ in value if part == "postgresql"} == systems
    assert {part for part, _, metric in value if metric == "ingest_rows_per_s"} == {"sqlite", "postgresql"}
    assert (last["benchmark"], last["events"]) == ("intake", 2000 if only else 50)
    assert ("sqlite recsys / sqlite3 fetchall" in last["ratios"]) is not bool(only)


def test_a_database_that_is_away_is_one_line_of_error() -> None:
    command = [sys.executable, "benchmarks/intake.py", "--events", "10", "--rounds", "1", "--only", "recsys"]
    command += ["--postgresql", "postgresql://127.0.0.1:1/shop"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith("intake: ")
