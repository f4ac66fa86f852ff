"""Time and memory of the scorer as users and products grow, beside the straight line; a part of `score.py`.

In: sizes. Out: rows and ratios. Each size runs in a process of its own, so that its peak memory is its own:

    python benchmarks/score_growth.py USERS PRODUCTS LENGTH K SEEN SEED THREADS
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import score_data
import torch
from telling import say

from recsys.vectors.topk.scorer import ExactScorer

SIZES = [(100_000, 100_000), (300_000, 100_000), (1_000_000, 100_000)]
WIDER = [(100_000, 10_000), (100_000, 100_000), (100_000, 1_000_000)]
QUICK = [(9_000, 3_000), (18_000, 3_000)], [(9_000, 3_000), (9_000, 6_000)]


def one(users: int, products: int, length: int, k: int, seen: int, seed: int, threads: int) -> dict[str, float]:
    """Score so many users, block by block, as a night does; seconds of the scorer and peak memory of this process."""
    torch.set_num_threads(threads)
    items = score_data.products(products, length, seed=seed)
    scorer, spent = ExactScorer(items), 0.0
    for block, start in enumerate(range(0, users, score_data.BLOCK)):
        vectors = score_data.users(block, length, seed=seed)
        pairs = score_data.seen(block, products, seen, seed=seed)
        held = pairs[0] < min(score_data.BLOCK, users - start)
        started = time.perf_counter()
        scorer.top_k(vectors[: users - start], k, excluded=(pairs[0][held], pairs[1][held]))
        spent += time.perf_counter() - started
    return {"seconds": spent, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def grown(asked: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, Any]]:
    """Rows and ratios of all sizes."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    sizes, wider = QUICK if asked.quick else (SIZES, WIDER)
    for users, products in dict.fromkeys(sizes + wider):
        say(f"{users:,} users, {products:,} products")
        numbers = (users, products, asked.length, asked.k, asked.seen, asked.seed, asked.threads)
        command = [sys.executable, str(Path(__file__)), *map(str, numbers)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[users, products] = json.loads(done.stdout.splitlines()[-1])
    rows = [
        {"system": "recsys", "metric": metric, "value": value, "low": value, "high": value, "slice": f"{u:,} x {n:,}"}
        for (u, n), figures in found.items()
        for metric, value in ((name, round(figure, 2)) for name, figure in figures.items())
    ]
    ratios = {}
    for name, line in (("users", sizes), ("products", wider)):
        small, large = line[0], line[-1]
        times = large[0] * large[1] / (small[0] * small[1])
        ratios[f"time / straight line, {times:g} x {name}"] = round(
            found[large]["seconds"] / found[small]["seconds"] / times, 3
        )
        ratios[f"peak memory, {times:g} x {name}"] = round(found[large]["peak_mb"] / found[small]["peak_mb"], 3)
    return rows, ratios, {"threads": asked.threads}


if __name__ == "__main__":
    print(json.dumps(one(*map(int, sys.argv[1:]))))
