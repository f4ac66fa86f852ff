"""The engines by name: where the shards of a run are done.

In: a name of `ENGINES`. Out: an executor; Ray is looked for only when it is asked for.
"""

from __future__ import annotations

from recsys.errors import UsageError, suggestion
from recsys.execution.retries import cores
from recsys.execution.shards import Executor

ENGINES = ("local", "processes", "ray")


def get_executor(name: str) -> Executor:
    """The engine of that name.

    Raises:
        UsageError: there is no such engine, or what it needs is not installed.
    """
    if name == "local":
        from recsys.execution.local import LocalExecutor

        return LocalExecutor()
    if name == "processes":
        from recsys.execution.processes import ProcessExecutor

        return ProcessExecutor()
    if name == "ray":
        from recsys.execution.ray import RayExecutor

        return RayExecutor()
    raise UsageError(f"unknown engine '{name}'{suggestion(name, ENGINES)} (known: {', '.join(ENGINES)})")


def worker_count(name: str, workers: int) -> int:
    """How many workers an engine gets: as asked, and where nothing is asked (0) one, or with processes one a core."""
    if workers:
        return workers
    return 1 if name == "local" else max(1, cores())
