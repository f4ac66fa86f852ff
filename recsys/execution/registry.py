"""Execution engines by name.

In: a name of `ENGINES`. Out: an executor; Ray is imported only for the ray engine.
"""

from __future__ import annotations

from recsys.errors import UsageError, suggestion
from recsys.execution.retries import available_cores
from recsys.execution.shards import Executor

ENGINES = ("local", "processes", "ray")


def get_executor(name: str) -> Executor:
    """Create the executor of an engine.

    Raises:
        UsageError: there is no such engine, or a package it needs is not installed.
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
    """Return the number of workers: `workers`, or by default (0) one, with processes one per core."""
    if workers:
        return workers
    return 1 if name == "local" else max(1, available_cores())
