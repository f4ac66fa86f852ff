from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[2]
SHARES = ("50 %", "5 %", "0.5 %", "0.05 %")


def run(*options):
    command = [sys.executable, "benchmarks/search.py", "--quick", "--json", "--threads", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_kind_stands_beside_faiss():
    last = run()
    assert (last["benchmark"], last["quick"]) == ("search", True)
    assert all(row["low"] <= row["value"] <= row["high"] for row in last["rows"])
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in last["rows"]}
    for kind in ("flat", "ivf", "hnsw", "pq"):
        for system in ("recsys", "FAISS"):
            assert value[system, kind, "recall@10"] > 0.9 and value[system, kind, "queries_per_s"] > 0
            assert value[system, kind, "single_median_ms"] <= value[system, kind, "single_p95_ms"]
        assert value["recsys", kind, "build_s"] > 0 and value["recsys", kind, "file_mb"] > 0
        assert f"speed recsys / FAISS, {kind}, all at once" in last["ratios"]
    assert value["recsys", "flat", "recall@10"] == 1
    for kind in ("ivf", "hnsw", "pq"):
        for share in SHARES:
            assert value["recsys", f"{kind}, {share}", "filled"] == 1
            assert value["recsys", f"{kind}, {share}", "recall@10"] > 0.9
            assert 0 <= value["FAISS with selector", f"{kind}, {share}", "recall@10"] <= 1
            assert 0 <= value["FAISS, filtered after", f"{kind}, {share}", "filled"] <= 1
        assert last["facts"][f"{kind} update"] == "updated: 10 added, 10 removed, 10 changed"
        lost = (
            value["recsys", f"{kind}, before the change", "recall@10"]
            - value["recsys", f"{kind}, brought up to date", "recall@10"]
        )
        assert abs(lost) < 0.05
        assert last["ratios"][f"rebuild / update, {kind}"] > 0


def test_vectors_of_a_file(tmp_path):
    np.save(tmp_path / "some.npy", np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    last = run("--vectors", str(tmp_path / "some.npy"), "--kinds", "ivf", "--only", "recsys")
    assert last["facts"]["products"] == 500 and {row["system"] for row in last["rows"]} == {"recsys"}
