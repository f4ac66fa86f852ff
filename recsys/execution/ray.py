"""Run shards with Ray, on this machine or a cluster; a dead actor is replaced and its shard retried.

In: a task and its shards. Out: their results in order of completion. Ray is used for nothing else: it is installed with
the extra `recsys[ray]`. The address of a cluster is read from RAY_ADDRESS, as Ray itself does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from recsys.errors import TemporaryError, UsageError
from recsys.execution import signals
from recsys.execution.retries import ShardOutcome, ShardQueue, run_shard
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)

R = TypeVar("R")
_POLL_S = 0.5
"""Seconds between checks for a pending signal."""


class _Actor:
    """Ray actor on a node; sets the task up before its first shard."""

    def __init__(self, task: ShardTask[Any]) -> None:
        self._task, self._ready = task, False

    def run(self, shard: Shard) -> ShardOutcome:
        """Run one shard."""
        if not self._ready:
            self._task.setup()
            self._ready = True
        return run_shard(self._task, shard)


class RayExecutor:
    """Executor on Ray actors, spread over the nodes, one core each."""

    def __init__(self) -> None:
        """Import Ray.

        Raises:
            UsageError: Ray is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "the ray engine needs Ray: pip install 'recsys[ray]'; 'processes' needs no extra package"
            ) from error
        self._ray: Any = ray

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """See `shards.Executor`; results are yielded in order of completion.

        A dead actor or node counts as a temporary error of its shard. Ray is started if it is not running, and stopped
        afterwards in that case.

        Raises:
            UsageError: fewer than one worker is requested.
            TemporaryError: a shard's actor died more often than `retries`.
            InterruptedRunError: a signal asked this process to stop; the actors are killed.
        """
        if workers < 1:
            raise UsageError(f"the ray engine needs at least one worker, not {workers}")
        return self._run(task, ShardQueue(shards, retries=retries), workers)

    def _run(self, task: ShardTask[R], queue: ShardQueue, workers: int) -> Iterator[tuple[Shard, R]]:
        ray = self._ray
        started_ray = not ray.is_initialized()
        actors: list[Any] = []
        running: dict[Any, tuple[Any, Shard]] = {}
        try:
            if started_ray:
                # Ray would take over the signals and the logs of this process.
                ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
            task_ref = ray.put(task)
            n_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            while True:
                self._assign_shards(task_ref, queue, actors, running, min(workers, n_cpus))
                if not running:
                    return
                done, _ = ray.wait(list(running), timeout=_POLL_S)
                signals.raise_pending_signal()
                for reference in done:
                    actor, shard = running.pop(reference)
                    outcome = self._collect_outcome(reference, actor, shard, actors)
                    if outcome.error is None:
                        yield shard, outcome.result
                    else:
                        queue.record_failure(shard, outcome.to_exception())
        finally:
            with signals.defer_signals():
                for actor in actors:
                    ray.kill(actor)
                if started_ray:
                    ray.shutdown()

    def _assign_shards(
        self, task_ref: Any, queue: ShardQueue, actors: list[Any], running: dict[Any, tuple[Any, Shard]], workers: int
    ) -> None:
        """Assign a shard to every idle actor; start new actors while there are shards for them."""
        busy = [actor for actor, _ in running.values()]
        idle = [actor for actor in actors if actor not in busy]
        while idle or len(actors) < workers:
            shard = queue.next_shard()
            if shard is None:
                for actor in idle:  # another process may be waiting for its core
                    self._ray.kill(actor)
                    actors.remove(actor)
                return
            if not idle:
                actor_class = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
                idle.append(actor_class.remote(task_ref))
                actors.append(idle[-1])
            actor = idle.pop()
            running[actor.run.remote(shard)] = (actor, shard)

    def _collect_outcome(self, reference: Any, actor: Any, shard: Shard, actors: list[Any]) -> ShardOutcome:
        """Return the outcome of a shard; a dead actor is removed from `actors`."""
        try:
            outcome: ShardOutcome = self._ray.get(reference)
            return outcome
        except self._ray.exceptions.RayTaskError as error:  # the setup of the task failed there
            cause = error.cause if isinstance(error.cause, Exception) else error
            return ShardOutcome(shard, error=str(cause).strip().splitlines()[-1], kind=type(cause))
        except self._ray.exceptions.RayError as error:
            actors.remove(actor)
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return ShardOutcome(shard, error=f"its Ray actor died ({lines[0][:200]})", kind=TemporaryError)
