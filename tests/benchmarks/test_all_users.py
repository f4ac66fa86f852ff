from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.benchmarks.scripts import run_script

HERE = Path(__file__).parents[2]


def measured(*more: str) -> subprocess.CompletedProcess[str]:
    return run_script("all_users.py", "--quick", "--json", *more)


def test_a_night_ends_with_one_line_of_json_and_is_measured_again_in_its_folder(tmp_path: Path) -> None:
    for turn in range(2):
        done = measured("-k", "5", "--work", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert ("training on" in done.stderr) is (turn == 0)
        last = json.loads(done.stdout.splitlines()[-1])
        value = {row["metric"]: row["value"] for row in last["rows"]}
        assert (last["benchmark"], last["users"]) == ("all_users", 120)
        assert value["rows"] == 121 * 5, "every user's and __default__'s list"
        assert 0 < value["lists_score_s"] <= value["recommend_s"] <= value["night_s"]


def test_a_database_that_is_away_is_one_line_of_error() -> None:
    done = measured("--database", "postgresql+psycopg://127.0.0.1:1/shop")
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith("all_users: ")
