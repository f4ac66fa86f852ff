"""How fast others score users: implicit's `recommend` and RecTools' ranker, in an environment of their own.

In: a folder with users.npy, items.npy, starts.npy and seen.npy (rows a user has seen, by user); names of systems on
stdin. Out: a line of JSON for each, and there the lists as .npy. Imports nothing of ours:

    PEERS_PYTHON benchmarks/score_peer.py FOLDER K THREADS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

BATCH = 4096


def implicit_ranks(users: np.ndarray, items: np.ndarray, threads: int) -> Callable[..., np.ndarray]:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=items.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = users, items

    def ranks(some: np.ndarray, seen: sparse.csr_matrix, k: int) -> np.ndarray:
        return model.recommend(some, seen[some], N=k, filter_already_liked_items=True)[0]

    return ranks


def rectools_ranks(users: np.ndarray, items: np.ndarray, threads: int) -> Callable[..., np.ndarray]:
    from rectools.models.rank import Distance, ImplicitRanker

    ranker = ImplicitRanker(Distance.DOT, users, items, num_threads=threads)

    def ranks(some: np.ndarray, seen: sparse.csr_matrix, k: int) -> np.ndarray:
        return np.asarray(ranker.rank(some, k, filter_pairs_csr=seen[some])[1]).reshape(len(some), k)

    return ranks


SYSTEMS = {"implicit recommend": implicit_ranks, "RecTools ImplicitRanker": rectools_ranks}


def main() -> int:
    folder, k, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    users, items, starts, seen = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("users", "items", "starts", "seen")
    )
    had = sparse.csr_matrix((np.ones(len(seen), np.float32), seen, starts), shape=(len(users), len(items)))
    ready = {name: make(users, items, threads) for name, make in SYSTEMS.items()}
    versions = {name: metadata.version(name) for name in ("implicit", "rectools", "numpy", "scipy")}
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        name = line.strip()
        with threadpool_limits(1, "blas"):  # implicit asks for it: it multiplies blocks in threads of its own
            started, spent = time.perf_counter(), time.process_time()
            parts = [
                ready[name](np.arange(start, min(start + BATCH, len(users))), had, k)
                for start in range(0, len(users), BATCH)
            ]
            seconds = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - spent}
        np.save(folder / "lists.npy", np.concatenate(parts))
        print(json.dumps(seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
