from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[2]


def run(*options, said=""):
    command = [sys.executable, "benchmarks/score.py", "--quick", "--json", "--threads", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0 and said in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_take_turns_and_the_lists_are_right(tmp_path):
    last = run("--peers", str(tmp_path / "none"), said="implicit and RecTools left out")
    assert (last["benchmark"], last["quick"]) == ("score", True)
    value = {(row["system"], row["metric"]): row["value"] for row in last["rows"]}
    assert all(row["low"] <= row["value"] <= row["high"] for row in last["rows"])
    assert value["recsys", "same_lists_as_float64"] == 1
    for system in ("recsys", "FAISS flat + filter"):
        assert value[system, "users_per_s"] > 0 and value[system, "users_per_cpu_s"] > 0
        assert value[system, "same_lists_as_float64"] > 0.9
    assert value["recsys approximate", "recall@20"] > 0.97 and last["facts"]["approximate"]["recall"] >= 0.99
    assert last["ratios"]["users_per_s recsys / bf16 product alone"] > 0


def test_growth_has_a_process_for_each_size():
    last = run("--growth")
    slices = {row["slice"] for row in last["rows"]}
    assert slices == {"9,000 x 3,000", "18,000 x 3,000", "9,000 x 6,000"}
    assert {"time / straight line, 2 x users", "peak memory, 2 x users"} <= set(last["ratios"])
