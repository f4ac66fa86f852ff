"""The benchmarks of nights: on a project, rows equal; for everybody of a made-up shop, every list written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_a_quick_night_on_a_project(trained: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/night.py", "--project", str(trained), "--quick", "--json", "--only", "recsys"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    figures = {(row["slice"], row["metric"]): row["value"] for row in told["rows"]}
    assert figures["incremental", "rows_equal"] == 1
    assert (
        figures["incremental", "lists_made"] + figures["incremental", "lists_kept"]
        == figures["everybody", "lists_made"]
    )
    assert (
        0 < figures["incremental", "lists_made"] < figures["full", "lists_made"] and figures["full", "lists_kept"] == 0
    )
    assert 0 < figures["incremental", "products_as_full"] <= 1
    assert {"night_s everybody / incremental", "lists_s everybody / incremental"} == told["ratios"].keys()


@pytest.mark.timeout(600)
def test_a_quick_night_for_everybody() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/everybody.py", "--quick", "--json", "-k", "5"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    figures = {row["metric"]: row["value"] for row in told["rows"]}
    assert figures["rows"] == 5 * (120 + 1), "everybody and the list of users without history"
    assert 0 < figures["lists_score_s"] <= figures["recommend_s"] <= figures["night_s"]
