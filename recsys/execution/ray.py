"""Shards run by Ray, on this machine or on a cluster; an actor that dies is replaced and its shard is done again.

In: a task and its shards. Out: their results as they are finished. Ray is not needed for anything else: it comes with
the extra `recsys[ray]`. The address of a cluster is taken from RAY_ADDRESS, as Ray itself does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from recsys.errors import TemporaryError, UsageError
from recsys.execution import signals as stop
from recsys.execution.retries import ShardOutcome, ShardQueue, run_shard
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)

R = TypeVar("R")
_LOOK = 0.5
"""Seconds between two looks at whether a signal has come."""


class _Actor:
    """What runs on a node: the task, made ready before its first shard."""

    def __init__(self, task: ShardTask[Any]) -> None:
        self._task, self._ready = task, False

    def run(self, shard: Shard) -> ShardOutcome:
        """One shard."""
        if not self._ready:
            self._task.setup()
            self._ready = True
        return run_shard(self._task, shard)


class RayExecutor:
    """So many actors, spread over the nodes, one core each."""

    def __init__(self) -> None:
        """Look whether Ray is there.

        Raises:
            UsageError: it is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "the ray engine needs Ray: pip install 'recsys[ray]'; 'processes' needs nothing more"
            ) from error
        self._ray: Any = ray

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """See `shards.Executor`; results come in the order they are finished.

        An actor or node that dies counts as a temporary trouble of its shard. Ray is started when it does not run yet,
        and stopped again then.

        Raises:
            UsageError: fewer than one worker is asked for.
            TemporaryError: a shard's actor died more often than `retries`.
            InterruptedRunError: a signal asked this process to stop; the actors are ended.
        """
        if workers < 1:
            raise UsageError(f"the ray engine needs at least one worker, not {workers}")
        return self._run(task, ShardQueue(shards, retries=retries), workers)

    def _run(self, task: ShardTask[R], attempts: ShardQueue, workers: int) -> Iterator[tuple[Shard, R]]:
        ray = self._ray
        ours = not ray.is_initialized()
        crew: list[Any] = []
        at_work: dict[Any, tuple[Any, Shard]] = {}
        try:
            if ours:
                # Ray would take over the signals and the logs of this process.
                ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
            described = ray.put(task)
            room = max(1, int(ray.cluster_resources().get("CPU", 1)))
            while True:
                self._give(described, attempts, crew, at_work, min(workers, room))
                if not at_work:
                    return
                done, _ = ray.wait(list(at_work), timeout=_LOOK)
                stop.raise_pending_signal()
                for reference in done:
                    actor, shard = at_work.pop(reference)
                    outcome = self._heard(reference, actor, shard, crew)
                    if outcome.error is None:
                        yield shard, outcome.result
                    else:
                        attempts.failed(shard, outcome.raised())
        finally:
            with stop.defer_signals():
                for actor in crew:
                    ray.kill(actor)
                if ours:
                    ray.shutdown()

    def _give(
        self, described: Any, attempts: ShardQueue, crew: list[Any], at_work: dict[Any, tuple[Any, Shard]], workers: int
    ) -> None:
        """A shard for every actor without one; new actors as long as there is work for them."""
        busy = [actor for actor, _ in at_work.values()]
        idle = [actor for actor in crew if actor not in busy]
        while idle or len(crew) < workers:
            shard = attempts.next()
            if shard is None:
                for actor in idle:  # its core may be what another one waits for
                    self._ray.kill(actor)
                    crew.remove(actor)
                return
            if not idle:
                kind = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
                idle.append(kind.remote(described))
                crew.append(idle[-1])
            actor = idle.pop()
            at_work[actor.run.remote(shard)] = (actor, shard)

    def _heard(self, reference: Any, actor: Any, shard: Shard, crew: list[Any]) -> ShardOutcome:
        """What became of a shard; an actor that is gone leaves the crew."""
        try:
            outcome: ShardOutcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayTaskError as error:  # the task could not be made ready there
            cause = error.cause if isinstance(error.cause, Exception) else error
            return ShardOutcome(shard, error=str(cause).strip().splitlines()[-1], kind=type(cause))
        except self._ray.exceptions.RayError as error:
            crew.remove(actor)
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return ShardOutcome(shard, error=f"its Ray actor is gone ({lines[0][:200]})", kind=TemporaryError)
