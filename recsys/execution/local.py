"""Run shards in this process, one after the other.

In: a task and its shards. Out: their results in the order of the shards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from recsys.errors import TemporaryError, UsageError
from recsys.execution import signals
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)

R = TypeVar("R")


class LocalExecutor:
    """Executor in this process, one shard at a time; the numerical libraries may use all cores."""

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """See `shards.Executor`; a pending signal is raised between two shards.

        Raises:
            UsageError: more than one worker is requested.
            InterruptedRunError: a signal asked this process to stop; no shard is half done.
        """
        if workers != 1:
            raise UsageError(f"the local engine has one worker, not {workers}; start one process per part for more")
        return self._run(task, shards, retries)

    def _run(self, task: ShardTask[R], shards: Iterable[Shard], retries: int) -> Iterator[tuple[Shard, R]]:
        ready = False
        for shard in shards:
            signals.raise_pending_signal()
            if not ready:
                task.setup()  # only if there is a shard
                ready = True
            yield shard, self._run_with_retries(task, shard, retries)

    def _run_with_retries(self, task: ShardTask[R], shard: Shard, retries: int) -> R:
        for attempt in range(retries):
            try:
                return task.run(shard)
            except TemporaryError as error:
                logger.warning(
                    "%s shard %d of %d failed (%s); retrying, %d of %d",
                    shard.stage, shard.index, shard.n_shards, error, attempt + 1, retries,
                )  # fmt: skip
        return task.run(shard)
