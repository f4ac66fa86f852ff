"""Lists of others' libraries, made in an environment of their own by peers.py and judged as ours are.

In: the path of their interpreter, events, histories. Out: lists by name of the system, and what was measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.interactions import Histories, Interactions
from recsys.evaluate import baselines
from recsys.evaluate.baselines import System
from recsys.types import IntArray

SCRIPT = Path(__file__).with_name("peers.py")
NAMES = {
    "rectools-sasrec": "RecTools SASRec",
    "implicit-als": "implicit ALS",
    "implicit-bpr": "implicit BPR",
    "implicit-itemknn": "implicit cosine KNN",
    "implicit-bm25": "implicit BM25 KNN",
}
Say = Callable[[str], None]


def add_peers(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark that has others beside it."""
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="interpreter that has RecTools and implicit")
    parser.add_argument("--peers-minutes", type=float, default=10, help="training of RecTools SASRec")


def options(asked: argparse.Namespace) -> list[str]:
    """Options of peers.py for a whole or a quick run."""
    out = ["--systems", ",".join(NAMES), "--minutes", str(asked.peers_minutes)]
    return [*out, "--epochs", "1", "--factors", "16"] if asked.quick else out


def write_events(folder: Path, train: Interactions) -> None:
    """train.npz of peers.py."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {"user": train.user, "item": train.item, "n_users": train.n_users, "n_items": train.n_items}
    np.savez(folder / "train.npz", **held)


def peer_lists(
    python: Path,
    train: Interactions,
    histories: Histories,
    *,
    k: int,
    exclude_seen: bool,
    folder: Path,
    options: list[str],
    say: Say,
) -> tuple[dict[str, IntArray], dict[str, Any]]:
    """Ask the systems; one that is not installed or fails is told of and left out.

    Args:
        python: interpreter of an environment that has them.
        train: what may be learned from.
        histories: b users.
        k: products in a list.
        exclude_seen: what stands in a history is not listed.
        folder: for the files between here and there.
        options: further ones of peers.py.
        say: told what failed.

    Returns:
        (b, k) product rows by system, -1 = none; versions, seconds and sizes.
    """
    write_events(folder, train)
    test = {"users": histories.users, "histories": histories.items, "exclude_seen": exclude_seen, "k": k}
    np.savez(folder / "test.npz", **test)
    (folder / "facts.json").unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [str(python), str(SCRIPT), str(folder), *options], capture_output=True, text=True, check=False
        )
    except OSError as error:
        say(f"peers left out: {python}: {error.strerror}")
        return {}, {}
    if done.returncode or not (folder / "facts.json").exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        say(f"peers left out: {python} ended with {done.returncode}: {last}")
        return {}, {}
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    for name, reason in facts["failed"].items():
        say(f"{NAMES.get(name, name)} left out: {reason}")
    out = {}
    for name in facts["systems"]:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as held:
            out[NAMES.get(name, name)] = held["lists"].astype(np.int64)
    return out, facts


def as_system(lists: IntArray, histories: Histories, train: Interactions, *, now: int) -> System:
    """Lists as something that can be asked, for these users alone and no longer than they are.

    No peer says anything of a user without events; it gets what was bought most in the week before `now`, so that all
    are judged on all users.
    """
    place = {user: row for row, user in enumerate(histories.users.tolist())}
    counts = baselines.popularity(train, days=7, now=now)(histories)[:1].ravel()
    best = np.argsort(-counts, kind="stable")
    best = best[counts[best] > 0]
    empty = ~(histories.items >= 0).any(1)

    def system(some: Histories, k: int) -> IntArray:
        rows = np.array([place[user] for user in some.users.tolist()], np.int64)
        out = np.full((len(rows), k), -1, np.int64)
        width = min(k, lists.shape[1])
        out[:, :width] = lists[rows, :width]
        popular = best[:k]
        out[np.ix_(empty[rows], np.arange(k) < len(popular))] = popular
        return out

    return system
