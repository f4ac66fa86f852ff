from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "benchmarks" / "embed.py"


def run(*options):
    command = [sys.executable, str(SCRIPT), "--quick", "--json", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)


def test_it_ends_with_one_line_of_json(tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "own.npy", g.normal(size=(90, 48)).astype(np.float32))
    done = run("--vectors", tmp_path / "own.npy")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["benchmark"], last["products"], last["quick"], last["vectors"]) == ("embed", 300, True, "own.npy")
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in last["rows"]}
    assert all(row["low"] <= row["value"] <= row["high"] for row in last["rows"])
    for part, encoded in (("unchanged", 0), ("one title", 1)):
        for metric in ("encoded", "forward_passes", "torch"):
            assert value["recsys", part, metric] == encoded
        assert value["recsys", part, "cpu_s"] > 0
    assert {part for _, part, metric in value if metric == "recall@10"} == {
        f"{storage} {first}" for storage in ("float32", "int8") for first in (48, 32)
    }
    assert value["recsys", "float32 48", "recall@10"] == 1
    assert value["recsys", "int8 48", "recall@10"] > 0.9 > value["recsys", "float32 32", "recall@10"]
    assert last["ratios"]["bytes int8 48 / float32 48"] == pytest.approx((48 + 4) / (48 * 4), abs=0.02)
    assert {system for system, _, metric in value if metric == "pictures_per_cpu_s"} == {"recsys", "Pillow"}


def test_what_cannot_be_read_is_one_line_of_error(tmp_path):
    done = run("--vectors", tmp_path / "none.npy", "--only", "recsys")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("embed: ") and "none.npy" in done.stderr
