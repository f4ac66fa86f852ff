"""The run ledger: what was made, which run consumers read, going forward, back, and cleaning up.

In: a Bench. Out: Reports. Nothing here loads a model, so these commands are quick.
"""

from __future__ import annotations

from recsys.errors import NotFoundError
from recsys.pipeline.bench import Bench
from recsys.pipeline.report import Report, Table, plain


def listing(bench: Bench) -> Report:
    """All runs, newest first."""
    frame = bench.store.runs()
    return Report("runs list", counts={"runs": frame.height}, tables=[Table.of("runs", frame)])


def shown(bench: Bench, run_id: str) -> Report:
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
    rows = [(name, str(plain(value)) if isinstance(value, dict) else value) for name, value in facts.items()]
    return Report(
        "runs show", run_id=run_id, counts=facts.get("counts") or {}, tables=[Table("run", ("what", "value"), rows)]
    )


def prune(bench: Bench) -> Report:
    """Delete the rows of old runs; `publish.keep_runs` stay."""
    with bench.watch.stage("prune"):
        gone = bench.store.prune(bench.settings.publish.keep_runs)
    return Report("runs prune", status="done" if gone else "nothing_new", counts={"runs_pruned": gone})


def publish(bench: Bench, run_id: str | None = None, *, force: bool = False) -> Report:
    """Make a finished run the one consumers read.

    Raises:
        NotFoundError: there is no such run, or none is ready.
        PublishGuardError: a guard refuses it.
    """
    with bench.watch.stage("publish"):
        published = bench.store.publish(run_id, guards=bench.settings.publish, force=force)
    return Report("publish", run_id=published, notes=[f"consumers now read run {published}"])


def rollback(bench: Bench) -> Report:
    """Let consumers read the run before again."""
    with bench.watch.stage("rollback"):
        run_id = bench.store.rollback(bench.settings.recommend.placement)
    return Report("rollback", run_id=run_id, notes=[f"consumers now read run {run_id}"])
