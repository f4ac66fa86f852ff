"""The run ledger: what was made, which run consumers read, going forward, back, and cleaning up.

In: a Bench. Out: Reports. Nothing here loads a model, so these commands are quick.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recsys.errors import NotFoundError
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.recommend.rules.statistics import rows as rows_of

_SHOWN = frozenset({"seconds", "peak_mb", "making", "drops", "parts", "why"})
"""Metrics that have a table of their own."""


def list_runs(bench: Project) -> CommandResult:
    """All runs, newest first."""
    frame = bench.store.runs()
    return CommandResult("runs list", counts={"runs": frame.height}, tables=[Table.from_frame("runs", frame)])


def show_run(bench: Project, run_id: str) -> CommandResult:
    """Everything noted about one run; 'latest' is the newest of all.

    Raises:
        NotFoundError: there is no such run.
    """
    if run_id == "latest":
        known = bench.store.runs()["run_id"].to_list()
        if not known:
            raise NotFoundError("there is no run yet; run 'recsys recommend'")
        run_id = known[0]
    facts = bench.store.run(run_id)
    metrics = facts.get("metrics") or {}
    counts = facts.get("counts") or {}
    told = {name: value for name, value in facts.items() if name not in ("metrics", "counts", "extra")}
    about = {**told, **counts, **({"why": metrics["why"]} if "why" in metrics else {})}
    tables = [Table("run", ("what", "value"), list(about.items())), *_tables(metrics)]
    return CommandResult("runs show", run_id=run_id, counts=counts, tables=tables)


def _tables(metrics: Mapping[str, Any]) -> list[Table]:
    """The metrics of a run for people: stages, making, what the rules did, parts, and the rest as it is."""
    seconds, memory = metrics.get("seconds") or {}, metrics.get("peak_mb") or {}
    made = [Table("stages", ("stage", "seconds", "peak_mb"), [(one, seconds[one], memory.get(one)) for one in seconds])]
    if metrics.get("making"):
        made.append(Table("lists", ("what", "value"), list(metrics["making"].items())))
    drops = metrics.get("drops") or {}
    if "products_barred" in drops:
        rows = [*rows_of(drops), ("all", "shards counted here", drops.get("shards_counted"))]
        made.append(Table("drops", ("rule", "what", "count"), rows))
    parts = metrics.get("parts") or {}
    if parts:
        columns = ("shards", "users")
        rows_ = [
            (part, *(note[name] for name in columns), note["making"]["seconds"], note["making"]["worker_peak_mb"])
            for part, note in sorted(parts.items(), key=lambda one: int(one[0]))
        ]
        made.append(Table("parts", ("part", *columns, "seconds", "peak_mb"), rows_))
    rest = {name: value for name, value in metrics.items() if name not in _SHOWN}
    made.append(Table("metrics", ("what", "value"), list(_flat(rest))))
    return [table for table in made if table.rows]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures as one row each, `ndcg@10.trees`; lists as one text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value


def prune(bench: Project) -> CommandResult:
    """Delete the rows of old runs; `publish.keep_runs` stay."""
    with bench.progress.stage("prune"):
        gone = bench.store.prune(bench.settings.publish.keep_runs)
    return CommandResult("runs prune", status="done" if gone else "nothing_new", counts={"runs_pruned": gone})


def publish(bench: Project, run_id: str | None = None, *, force: bool = False) -> CommandResult:
    """Make a finished run the one consumers read.

    Raises:
        NotFoundError: there is no such run, or none is ready.
        PublishGuardError: a guard refuses it.
    """
    with bench.progress.stage("publish"):
        published = bench.store.publish(run_id, guards=bench.settings.publish, force=force)
    return CommandResult("publish", run_id=published, notes=[f"consumers now read run {published}"])


def rollback(bench: Project) -> CommandResult:
    """Let consumers read the run before again."""
    with bench.progress.stage("rollback"):
        run_id = bench.store.rollback(bench.settings.recommend.placement)
    return CommandResult("rollback", run_id=run_id, notes=[f"consumers now read run {run_id}"])
