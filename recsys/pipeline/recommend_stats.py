"""Statistics of a recommendation run, summed over its shards, for one process or several parts together.

In: the result of each shard. Out: counts and metrics for the run's row in the ledger.
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
        reason: why the run is a full or an incremental one; empty when incremental runs are off.
        metrics: further metrics of the run.
        shards_resumed: shards that were written before this process began.
        shards: shards computed by this process so far.
        users_done: users of these shards.
        lists_computed: recommendation lists computed.
        lists_kept: recommendation lists carried over from the previous run.
        rule_stats: what the rules removed, as `RuleStats.to_dict`.
        score_seconds: seconds spent computing lists, summed over workers.
        write_seconds: seconds spent writing them, summed over workers.
        seconds: wall-clock seconds from the first shard to the last.
        worker_peak_mb: highest memory of a worker.
        engine: execution engine.
        workers: number of workers.
        warnings: distinct warnings logged by workers.
    """

    users: int
    products: int
    reason: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    shards_resumed: int = 0
    shards: int = 0
    users_done: int = 0
    lists_computed: int = 0
    lists_kept: int = 0
    rule_stats: dict[str, Any] = field(default_factory=dict)
    score_seconds: float = 0.0
    write_seconds: float = 0.0
    seconds: float = 0.0
    worker_peak_mb: float = 0.0
    engine: str = "local"
    workers: int = 1
    warnings: list[str] = field(default_factory=list)

    def add(self, shard: ShardResult) -> None:
        """Add the result of one shard."""
        self.shards += 1
        self.users_done += shard.users
        self.lists_computed += shard.lists_computed
        self.lists_kept += shard.lists_kept
        self.score_seconds += shard.score_seconds
        self.write_seconds += shard.write_seconds
        self.rule_stats = merge_rule_stats([self.rule_stats, shard.rule_stats])
        self.worker_peak_mb = max(self.worker_peak_mb, shard.peak_mb)
        self.warnings += [warning for warning in shard.warnings if warning not in self.warnings]

    def counts(self) -> dict[str, Any]:
        """Return the counts of the run."""
        lists = {"lists_made": self.lists_computed, "lists_kept": self.lists_kept} if self.reason else {}
        return {"users": self.users, "products": self.products, "shards_resumed": self.shards_resumed, **lists}

    def to_metrics(self, progress: StageTimer) -> dict[str, Any]:
        """Return the metrics of the run; rule statistics cover the shards computed now, not those resumed."""
        drops = {"shards_counted": self.shards, "shards": self.shards + self.shards_resumed, **self.rule_stats}
        metrics = {
            "seconds": progress.seconds,
            "peak_mb": progress.peak_mb,
            "drops": drops,
            "making": self.throughput(),
        }
        return {**metrics, **({"why": self.reason} if self.reason else {}), **self.metrics}

    def throughput(self) -> dict[str, Any]:
        """Return engine, workers, speed and memory of the computation."""
        rate = self.users_done / self.seconds if self.seconds else None
        return {
            "engine": self.engine,
            "workers": self.workers,
            "seconds": self.seconds,
            "users_per_second": None if rate is None else round(rate, 1),
            "score_seconds": round(self.score_seconds, 3),
            "write_seconds": round(self.write_seconds, 3),
            "worker_peak_mb": max(self.worker_peak_mb, peak_mb()),
        }

    def to_dict(self, progress: StageTimer) -> dict[str, Any]:
        """Return this part's statistics as a JSON-compatible dict, for the other parts to merge."""
        return {
            "shards": self.shards, "users": self.users_done, "made": self.lists_computed, "kept": self.lists_kept,
            "drops": self.rule_stats, "making": self.throughput(), "seconds": dict(progress.seconds),
        }  # fmt: skip

    def merge(self, parts: Mapping[str, Mapping[str, Any]]) -> RunStats:
        """Return the statistics of all parts as one run; its seconds are those of the slowest part."""
        merged = RunStats(self.users, self.products, self.reason, self.metrics, engine=self.engine)
        for part in parts.values():
            throughput = part["making"]
            merged.shards += part["shards"]
            merged.users_done += part["users"]
            merged.lists_computed += part["made"]
            merged.lists_kept += part["kept"]
            merged.score_seconds += throughput["score_seconds"]
            merged.write_seconds += throughput["write_seconds"]
            merged.seconds = max(merged.seconds, throughput["seconds"])
            merged.worker_peak_mb = max(merged.worker_peak_mb, throughput["worker_peak_mb"])
        merged.workers = sum(part["making"]["workers"] for part in parts.values())
        merged.rule_stats = merge_rule_stats([part["drops"] for part in parts.values()])
        return merged

    def notes(self) -> list[str]:
        """Return the notes shown to people."""
        if not self.reason:
            return []
        return [f"{self.lists_computed:,} lists made, {self.lists_kept:,} taken over: {self.reason}"]
