"""How fast the user encoder trains: beside RecTools' SASRec of the same size, and beside what the processor can do.

In: a file of sequences. Out: a table; with --json one line of JSON at the end.

    python benchmarks/sequence_speed.py Video.txt --peers PYTHON

Both make whole passes over the same sequences in turns, the first to warm up: 64 dimensions, 1 head, 2 blocks, length
20, 256 sequences and 32 negatives a step. Each is as it comes: ours in the number format of `precision`, batches of
like length, negatives shared by a step; SASRec pads to the full length and draws negatives for each position.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_lists import SCRIPT, write_events
from sequential_data import Log, read
from telling import machine, say
from torch.utils.flop_counter import FlopCounterMode

from recsys.config import EncoderSettings, TrainingSettings
from recsys.data.id_map import IdMap
from recsys.encoder.batches.users import UserBatchLoader, UserTrainingBatch
from recsys.encoder.device import deterministic, supports_bf16
from recsys.encoder.objectives.next_item import NextItemLoss
from recsys.encoder.training import loop
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.user_encoder import UserEncoder
from recsys.errors import RecsysError

SIZE = EncoderSettings(dim=64, width=64, heads=1, user_layers=2, history=20)
NEGATIVES = 32
QUICK_USERS = 600
PEER = "RecTools SASRec"
LOSS = "sampled_softmax"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="interpreter that has RecTools")
    parser.add_argument("--only", choices=["recsys"], help="leave out the peer")
    parser.add_argument("--rounds", type=int, default=5, help="passes that are measured")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of ours")
    parser.add_argument("--quick", action="store_true", help="few users, two rounds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


class Peer:
    """SASRec in its own environment, waiting between passes."""

    def __init__(self, python: Path, folder: Path) -> None:
        same = json.dumps({"loss": LOSS, "lr": 1e-3})
        self._log = (folder / "peer.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(SCRIPT), str(folder), "--rounds", "--sasrec", same],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.result()

    def result(self) -> float:
        """Seconds of the pass under way.

        Raises:
            OSError: it ended.
        """
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return float(json.loads(line)["seconds"])
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"ended with {self._process.wait()}: {last}")

    def round(self) -> float:
        """One more pass: seconds."""
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        return self.result()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()


class Measured:
    """Batches that look at the clock whenever a pass ends, and let others have the processor then."""

    def __init__(self, batches: UserBatchLoader, between: Callable[[], None]) -> None:
        self.batches, self.steps_per_epoch, self.between = batches, batches.steps_per_epoch, between
        self.seconds: list[float] = []
        self._started = 0.0

    def get_batch(self, step: int) -> UserTrainingBatch:
        if step % self.steps_per_epoch == 0:
            if step:
                self.seconds.append(time.perf_counter() - self._started)
            self.between()
            self._started = time.perf_counter()
        return self.batches.get_batch(step)


def gflops(precision: torch.dtype) -> float:
    """Thousand millions of floating-point operations a second in a large matrix product, the best of some."""
    a, b = (torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)).to(precision) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best / 1e9


def per_sequence(users: UserEncoder, objective: NextItemLoss, batches: UserBatchLoader, *, steps: int) -> float:
    """Floating-point operations of matrix products, forward and backward, for one sequence."""
    counter = FlopCounterMode(display=False)
    with counter:
        for step in range(steps):
            objective(users, batches.get_batch(step), torch.Generator().manual_seed(step)).backward()
    users.zero_grad(set_to_none=True)
    return counter.get_total_flops() / (steps * batches.batch_size)


def measure(log: Log, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds a pass of each system, speeds of matrix products measured between them, the operations of a sequence."""
    rounds = 2 if asked.quick else asked.rounds
    training = TrainingSettings(negatives=NEGATIVES, precision=asked.precision, device="cpu", checkpoint_minutes=1e6)
    bf16 = asked.precision == "bf16" or (asked.precision == "auto" and supports_bf16(torch.device("cpu")))
    peer, theirs, products = None, list[float](), list[float]()
    if asked.peers and not asked.only:
        write_events(folder, log.train)
        try:
            peer = Peer(asked.peers, folder)
        except OSError as error:
            say(f"{PEER} left out: {asked.peers}: {error}")

    def between() -> None:
        if len(products) > rounds:
            return
        say(f"round {len(products)} of {rounds}" if products else "warm up")
        products.append(gflops(torch.bfloat16 if bf16 else torch.float32))
        if peer and len(theirs) < rounds:
            theirs.append(peer.round())

    try:
        with deterministic(0):
            ids = log.catalogue.ids
            users = UserEncoder(IdMap(ids.ids(np.flatnonzero(log.train.counts()))), SIZE)
            content = torch.nn.functional.normalize(torch.randn(len(ids), SIZE.dim), dim=1)
            objective = NextItemLoss(content, users.residual_rows(ids), id_dropout=SIZE.id_dropout, negatives=NEGATIVES)
            batches = UserBatchLoader(
                log.train, history_length=SIZE.history, batch_size=training.user_batch_size, seed=0
            )
            work = per_sequence(users, objective, batches, steps=min(40, batches.steps_per_epoch))
            measured = Measured(batches, between)
            loop.run_training_loop(
                users,
                [(1.0, objective)],
                measured,
                steps=(rounds + 1) * batches.steps_per_epoch + 1,
                batch_size=batches.batch_size,
                learning_rate=1e-3,
                checkpoint=TrainingCheckpoint(folder / "users.safetensors", {"stage": "users"}),
                training=training,
                folder=folder,
                resume=False,
                progress=False,
            )
    finally:
        if peer:
            peer.close()
    return {
        "sequences": len(batches.users),
        "seconds": {"recsys": measured.seconds[1:], **({PEER: theirs} if theirs else {})},
        "flops_per_sequence": work,
        "gflops": float(np.median(products)),
        "precision": "bf16" if bf16 else "fp32",
    }


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            log = read(asked.file, attributes=None, items=None, most_users=QUICK_USERS if asked.quick else None)
            found = measure(log, asked, Path(temporary))
        except RecsysError as error:
            print(f"sequence_speed: {error}", file=sys.stderr)
            return error.exit_code
    rows = []
    for system, seconds in found["seconds"].items():
        speeds = found["sequences"] / np.array(seconds)
        low, value, high = (round(float(each), 1) for each in (speeds.min(), np.median(speeds), speeds.max()))
        rows.append({"system": system, "metric": "sequences_per_s", "value": value, "low": low, "high": high})
        rows[-1]["slice"] = "all"
    limit = 1e9 * found["gflops"] / found["flops_per_sequence"]
    for row in rows:
        print(f"{row['system']:20s} {row['value']:10,.0f} sequences/s [{row['low']:,.0f}, {row['high']:,.0f}]")
    print(f"{'limit':20s} {limit:10,.0f} sequences/s: {found['gflops']:.0f} GFLOP/s in {found['precision']}")
    if asked.json:
        values = {row["system"]: row["value"] for row in rows}
        own = values.pop("recsys")
        ratios = {f"sequences_per_s recsys / {name}": round(own / value, 3) for name, value in values.items()}
        ratios["sequences_per_s recsys / limit"] = round(own / limit, 3)
        shown = {"benchmark": "sequence_speed", "file": asked.file.name, "quick": asked.quick}
        facts = {key: found[key] for key in ("sequences", "flops_per_sequence", "gflops", "precision")}
        facts |= {"limit_sequences_per_s": round(limit, 1), "rounds": len(found["seconds"]["recsys"])}
        print(
            json.dumps(
                {
                    **shown,
                    "rows": rows,
                    "ratios": ratios,
                    "facts": facts,
                    "machine": {**machine(), "threads": torch.get_num_threads()},
                }
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
