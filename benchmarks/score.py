"""How fast users are scored: the exact and the approximate scorer beside implicit, RecTools, FAISS and bare products.

In: sizes. Out: a table; with --json one line of JSON at the end.

    python benchmarks/score.py --peers PYTHON
    python benchmarks/score.py --growth

All take turns in one run, the first turn to warm up; the figures are medians of the others, by the clock and by the
processor's time, which says more where others share the machine. A turn scores the first
--turn of the users. The vectors are made (`score_data`): clustered products, users who like three topics. Lists are
compared with those sorted from products of float64.

With --growth every size is a process of its own, which makes its users block by block, scores and drops them: its
time, and its peak memory above that of the products' vectors alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import score_data
import torch
from score_growth import grown
from telling import machine, say

from recsys.vectors.topk.approximate import ApproximateScorer
from recsys.vectors.topk.scorer import ExactScorer

PEER_SCRIPT = Path(__file__).with_name("score_peer.py")
PEERS = ("implicit recommend", "RecTools ImplicitRanker")
SPEEDS = "users_per_s", "users_per_cpu_s"
TILE = 512, 1024
Lists = np.ndarray


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200_000, help="users there are")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=128, help="of the vectors")
    parser.add_argument("-k", type=int, default=20, help="length of the lists")
    parser.add_argument("--seen", type=int, default=30, help="products a user has seen")
    parser.add_argument("--turn", type=int, default=8192, help="users scored in a turn; 0 = all")
    parser.add_argument("--recall", type=float, default=0.99, help="asked of the approximate scorer")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for everybody alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="interpreter that has implicit and rectools")
    parser.add_argument("--only", choices=["recsys"], help="leave out the peers")
    parser.add_argument("--growth", action="store_true", help="time and memory for more users, and more products")
    parser.add_argument("--quick", action="store_true", help="600 users, 3,000 products, two turns")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    if asked.quick:
        asked.users, asked.products, asked.length, asked.turn, asked.rounds = 600, 3000, 32, 400, 2
    asked.turn = min(asked.turn or asked.users, asked.users)
    return asked


class Peers:
    """implicit and RecTools in their own environment, waiting between turns."""

    def __init__(self, python: Path, folder: Path, *, k: int, threads: int) -> None:
        self.folder = folder
        self._log = (folder / "peer.log").open("w+", encoding="utf-8")
        command = [str(python), str(PEER_SCRIPT), str(folder), str(k), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.versions: dict[str, str] = self._answer()["versions"]

    def _answer(self) -> dict[str, Any]:
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"ended with {self._process.wait()}: {last}")

    def turn(self, name: str) -> tuple[tuple[float, float], Lists]:
        """Seconds and lists of a system.

        Raises:
            OSError: it ended.
        """
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        seconds = self._answer()
        return (seconds["seconds"], seconds["cpu_s"]), np.load(self.folder / "lists.npy", allow_pickle=False)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()


def flat(users: np.ndarray, items: np.ndarray, seen: tuple[np.ndarray, np.ndarray], k: int, most: int) -> Lists:
    """FAISS' exact search for k and as many as a user has seen, which are then taken out."""
    import faiss

    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    _, found = index.search(users, min(len(items), k + most))
    had = np.isin(found + np.arange(len(users))[:, None] * len(items), seen[0] * len(items) + seen[1])
    return np.take_along_axis(found, np.argsort(had, axis=1, kind="stable"), axis=1)[:, :k]


def product(users: torch.Tensor, items: torch.Tensor, threads: int) -> None:
    """Nothing but the scores, in tiles that are overwritten: what no exact scorer of this format can beat."""

    def rows(start: int) -> None:
        out = torch.empty(min(TILE[0], len(users) - start), TILE[1], dtype=users.dtype)
        for first in range(0, len(items), TILE[1]):
            some = items[first : first + TILE[1]]
            torch.mm(users[start : start + TILE[0]], some.T, out=out if len(some) == TILE[1] else out[:, : len(some)])

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(rows, range(0, len(users), TILE[0])))
    torch.set_num_threads(threads)


def true_lists(users: np.ndarray, items: np.ndarray, seen: tuple[np.ndarray, np.ndarray], k: int) -> Lists:
    """Lists from products of float64, rounded to float32 as the scorer's scores are, ties by the lower row."""
    wide, out = items.T.astype(np.float64), np.empty((len(users), k), np.int64)
    for user, vector in enumerate(users.astype(np.float64)):
        scores = (vector @ wide).astype(np.float32)
        scores[seen[1][seen[0] == user]] = -np.inf
        out[user] = np.argsort(-scores, kind="stable")[:k]
    return out


def clocked(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds by the clock, seconds of processors, and what was made."""
    started, spent = time.perf_counter(), time.process_time()
    made = work()
    return (time.perf_counter() - started, time.process_time() - spent), made


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of each turn by system, their last lists, and facts."""
    n, d, k, seed = asked.products, asked.length, asked.k, asked.seed
    items = score_data.products(n, d, seed=seed)
    blocks = range(-(-asked.turn // score_data.BLOCK))
    users = np.concatenate([score_data.users(block, d, seed=seed) for block in blocks])[: asked.turn]
    pairs = [score_data.seen(block, n, asked.seen, seed=seed) for block in blocks]
    who = np.concatenate([at * score_data.BLOCK + pair[0] for at, pair in enumerate(pairs)])
    what = np.concatenate([pair[1] for pair in pairs])
    seen = who[who < asked.turn], what[who < asked.turn]
    sample = score_data.users(asked.users // score_data.BLOCK + 1, d, seed=seed)[:512]  # users of no turn
    exact = ExactScorer(items)
    grouped, approximate = clocked(lambda: ApproximateScorer(items, sample, k, recall=asked.recall, seed=seed))
    wide = torch.from_numpy(users), torch.from_numpy(items)
    short = tuple(each.bfloat16() for each in wide)
    turns: dict[str, Callable[[], tuple[tuple[float, float], Any]]] = {
        "recsys": lambda: clocked(lambda: exact.top_k(users, k, excluded=seen)[1]),
        "recsys approximate": lambda: clocked(lambda: approximate.top_k(users, k, excluded=seen)[1]),
        "float32 product alone": lambda: clocked(lambda: product(*wide, asked.threads)),
        "bf16 product alone": lambda: clocked(lambda: product(*short, asked.threads)),
    }
    peers = None
    if not asked.only:
        turns["FAISS flat + filter"] = lambda: clocked(lambda: flat(users, items, seen, k, asked.seen))
        starts = np.searchsorted(seen[0], np.arange(len(users) + 1))
        for name, held in {"users": users, "items": items, "starts": starts, "seen": seen[1]}.items():
            np.save(folder / f"{name}.npy", held)
        try:
            if asked.peers:
                peers = Peers(asked.peers, folder, k=k, threads=asked.threads)
                turns |= {name: lambda name=name: peers.turn(name) for name in PEERS}  # type: ignore[union-attr]
        except OSError as error:
            say(f"implicit and RecTools left out: {asked.peers}: {error}")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    lists: dict[str, Any] = {}
    try:
        for turn in range(asked.rounds + 1):
            say(f"turn {turn} of {asked.rounds}" if turn else "warm up")
            for name, run in turns.items():
                spent, lists[name] = run()
                if turn:
                    seconds[name].append(spent)
    finally:
        if peers:
            peers.close()
    some = min(256, asked.turn)
    checked = true_lists(users[:some], items, (seen[0][seen[0] < some], seen[1][seen[0] < some]), k)
    facts = {
        "approximate": {
            "effort": approximate.n_probe,
            "recall": approximate.recall,
            "build_cpu_s": round(grouped[1], 2),
        }
    }
    facts |= {"peers": peers.versions if peers else {}, "threads": asked.threads, "turn": asked.turn}
    return {"seconds": seconds, "lists": lists, "true": checked, "facts": facts}


def rows_of(found: dict[str, Any], users: int) -> list[dict[str, Any]]:
    """Speed of each system, and how many of its lists are right."""
    out: list[dict[str, Any]] = []
    exact = found["lists"]["recsys"]
    for system, seconds in found["seconds"].items():
        for metric, speeds in zip(SPEEDS, users / np.array(seconds).T, strict=True):
            low, value, high = (round(float(each), 1) for each in (speeds.min(), np.median(speeds), speeds.max()))
            out.append({"system": system, "metric": metric, "value": value, "low": low, "high": high})
        lists = found["lists"][system]
        if lists is None:
            continue
        same = float((lists[: len(found["true"])] == found["true"]).all(axis=1).mean())
        hits = [len(np.intersect1d(a, b)) / len(a) for a, b in zip(exact, lists, strict=True)]
        for metric, share in (("same_lists_as_float64", same), (f"recall@{exact.shape[1]}", float(np.mean(hits)))):
            share = round(share, 5)
            out.append({"system": system, "metric": metric, "value": share, "low": share, "high": share})
    return [{**row, "slice": "all"} for row in out]


def main() -> int:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    if asked.growth:
        rows, ratios, facts = grown(asked)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            found = measured(asked, Path(temporary))
        rows, facts = rows_of(found, asked.turn), found["facts"]
        speed = {(row["metric"], row["system"]): row["value"] for row in rows}
        ratios = {
            f"{metric} {ours} / {other}": round(speed[metric, ours] / speed[metric, other], 3)
            for metric in SPEEDS
            for ours in ("recsys", "recsys approximate")
            for other in found["seconds"]
            if not other.startswith("recsys")
        }
    for row in rows:
        label = row["metric"] if row["slice"] == "all" else f"{row['metric']} {row['slice']}"
        print(f"{row['system']:26s} {label:36s} {row['value']:12,.6g} [{row['low']:,.6g}, {row['high']:,.6g}]")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if asked.json:
        sizes = {"users": asked.users, "products": asked.products, "length": asked.length, "k": asked.k}
        shown = {"benchmark": "score", "quick": asked.quick, "rows": rows, "ratios": ratios}
        print(json.dumps({**shown, "facts": {**facts, **sizes, "seen": asked.seen}, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
