"""The `runs`, `publish` and `rollback` commands: list, show, publish, roll back and prune runs.

In: an open project. Out: results. No model is loaded, so these commands are fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recsys.errors import NotFoundError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend.rules.statistics import rule_stats_rows as rule_rows

_METRICS_WITH_TABLE = frozenset({"seconds", "peak_mb", "making", "drops", "parts", "why"})
"""Metrics that are shown in a table of their own."""


def list_runs(project: Project) -> CommandResult:
    """List all runs, newest first."""
    frame = project.store.runs()
    return CommandResult("runs list", counts={"runs": frame.height}, tables=[Table.from_frame("runs", frame)])


def show_run(project: Project, run_id: str) -> CommandResult:
    """Show everything recorded about one run; 'latest' is the newest.

    Raises:
        NotFoundError: there is no such run.
    """
    if run_id == "latest":
        run_ids = project.store.runs()["run_id"].to_list()
        if not run_ids:
            raise NotFoundError("there is no run yet; run 'recsys recommend'")
        run_id = run_ids[0]
    run = project.store.run(run_id)
    metrics = run.get("metrics") or {}
    counts = run.get("counts") or {}
    columns = {name: value for name, value in run.items() if name not in ("metrics", "counts", "extra")}
    summary = {**columns, **counts, **({"why": metrics["why"]} if "why" in metrics else {})}
    tables = [Table("run", ("what", "value"), list(summary.items())), *_metric_tables(metrics)]
    return CommandResult("runs show", run_id=run_id, counts=counts, tables=tables)


def _metric_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Arrange the metrics of a run in tables: stages, throughput, rules, parts, and the rest as it is."""
    seconds, memory = metrics.get("seconds") or {}, metrics.get("peak_mb") or {}
    stages = [(stage, seconds[stage], memory.get(stage)) for stage in seconds]
    tables = [Table("stages", ("stage", "seconds", "peak_mb"), stages)]
    if metrics.get("making"):
        tables.append(Table("lists", ("what", "value"), list(metrics["making"].items())))
    drops = metrics.get("drops") or {}
    if "products_barred" in drops:
        rows = [*rule_rows(drops), ("all", "shards counted here", drops.get("shards_counted"))]
        tables.append(Table("drops", ("rule", "what", "count"), rows))
    parts = metrics.get("parts") or {}
    if parts:
        columns = ("shards", "users")
        part_rows = [
            (part, *(stats[name] for name in columns), stats["making"]["seconds"], stats["making"]["worker_peak_mb"])
            for part, stats in sorted(parts.items(), key=lambda item: int(item[0]))
        ]
        tables.append(Table("parts", ("part", *columns, "seconds", "peak_mb"), part_rows))
    rest = {name: value for name, value in metrics.items() if name not in _METRICS_WITH_TABLE}
    tables.append(Table("metrics", ("what", "value"), list(_flatten(rest))))
    return [table for table in tables if table.rows]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested metrics as one row each, `ndcg@10.trees`; lists become one text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value


def prune(project: Project) -> CommandResult:
    """Delete the rows of old runs; the newest `publish.keep_runs` stay."""
    with project.progress.stage("prune"):
        pruned = project.store.prune(project.settings.publish.keep_runs)
    return CommandResult("runs prune", status="done" if pruned else "nothing_new", counts={"runs_pruned": pruned})


def publish(project: Project, run_id: str | None = None, *, force: bool = False) -> CommandResult:
    """Publish a finished run, so that consumers read it.

    Args:
        project: the project.
        run_id: the run; None = the latest that is ready.
        force: publish even if a guard refuses the run.

    Raises:
        NotFoundError: there is no such run, or none is ready.
        PublishGuardError: a guard refuses the run.
    """
    with project.progress.stage("publish"):
        settings = project.settings
        published = project.store.publish(
            run_id, guards=settings.publish, force=force, available_only=settings.rules.available_only
        )
    return CommandResult("publish", run_id=published, notes=[f"consumers now read run {published}"])


def rollback(project: Project) -> CommandResult:
    """Publish the previous run again."""
    with project.progress.stage("rollback"):
        run_id = project.store.rollback(project.settings.recommend.placement)
    return CommandResult("rollback", run_id=run_id, notes=[f"consumers now read run {run_id}"])
