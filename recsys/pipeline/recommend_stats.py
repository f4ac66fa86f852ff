"""The figures of a run while its shards are made, of one process or of several parts together.

In: what became of each shard. Out: counts and metrics for the run's row in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys.execution.progress import StageTimer, peak_mb
from recsys.pipeline.recommend_task import ShardResult
from recsys.recommend.rules.statistics import merge_rule_stats


@dataclass
class RunStats:
    """Sums over shards.

    Attributes:
        users: users of the run.
        products: products of the catalogue.
        why: why the run is a full or an incremental one.
        metrics: what else is noted.
        resumed: shards that were there before.
        shards: made by now.
        users_done: users of these shards.
        made: lists made.
        kept: lists taken over.
        drops: what the rules did.
        making: seconds spent making lists, summed over workers.
        writing: the same for writing them.
        seconds: from the first shard to the last, by the clock.
        worker_mb: highest memory of a worker.
        engine: where it was done.
        workers: by how many.
        warned: what workers warned about.
    """

    users: int
    products: int
    why: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0
    shards: int = 0
    users_done: int = 0
    made: int = 0
    kept: int = 0
    drops: dict[str, Any] = field(default_factory=dict)
    making: float = 0.0
    writing: float = 0.0
    seconds: float = 0.0
    worker_mb: float = 0.0
    engine: str = "local"
    workers: int = 1
    warned: list[str] = field(default_factory=list)

    def add(self, one: ShardResult) -> None:
        """Take in a shard."""
        self.shards += 1
        self.users_done += one.users
        self.made += one.made
        self.kept += one.kept
        self.making += one.seconds[0]
        self.writing += one.seconds[1]
        self.drops = merge_rule_stats([self.drops, one.drops])
        self.worker_mb = max(self.worker_mb, one.peak_mb)
        self.warned += [words for words in one.warnings if words not in self.warned]

    def counts(self) -> dict[str, Any]:
        """Counts of the run."""
        kept = {"lists_made": self.made, "lists_kept": self.kept} if self.why else {}
        return {"users": self.users, "products": self.products, "shards_resumed": self.resumed, **kept}

    def document(self, watch: StageTimer) -> dict[str, Any]:
        """Metrics of the run. What the rules did is known of the shards made now, not of those made before."""
        drops = {"shards_counted": self.shards, "shards": self.shards + self.resumed, **self.drops}
        figures = {"seconds": watch.seconds, "peak_mb": watch.peak_mb, "drops": drops, "making": self.throughput()}
        return {**figures, **({"why": self.why} if self.why else {}), **self.metrics}

    def throughput(self) -> dict[str, Any]:
        """How the lists were made: where, how quickly, with how much memory."""
        rate = self.users_done / self.seconds if self.seconds else None
        return {
            "engine": self.engine,
            "workers": self.workers,
            "seconds": self.seconds,
            "users_per_second": None if rate is None else round(rate, 1),
            "score_seconds": round(self.making, 3),
            "write_seconds": round(self.writing, 3),
            "worker_peak_mb": max(self.worker_mb, peak_mb()),
        }

    def to_dict(self, watch: StageTimer) -> dict[str, Any]:
        """What a part tells the others."""
        return {
            "shards": self.shards, "users": self.users_done, "made": self.made, "kept": self.kept,
            "drops": self.drops, "making": self.throughput(), "seconds": dict(watch.seconds),
        }  # fmt: skip

    def merge(self, notes: Mapping[str, Mapping[str, Any]]) -> RunStats:
        """All parts as one run; its seconds are those of the slowest part."""
        whole = RunStats(self.users, self.products, self.why, self.metrics, engine=self.engine)
        for note in notes.values():
            making = note["making"]
            whole.shards += note["shards"]
            whole.users_done += note["users"]
            whole.made += note["made"]
            whole.kept += note["kept"]
            whole.making += making["score_seconds"]
            whole.writing += making["write_seconds"]
            whole.seconds = max(whole.seconds, making["seconds"])
            whole.worker_mb = max(whole.worker_mb, making["worker_peak_mb"])
        whole.workers = sum(note["making"]["workers"] for note in notes.values())
        whole.drops = merge_rule_stats([note["drops"] for note in notes.values()])
        return whole

    def notes(self) -> list[str]:
        """What people are told."""
        if not self.why:
            return []
        return [f"{self.made:,} lists made, {self.kept:,} taken over: {self.why}"]
