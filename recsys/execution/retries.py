"""Queue of shards with retries, and the outcome of one attempt, for engines with several workers.

In: shards, the outcome of each attempt. Out: the next shard; the last error of a shard that failed too often.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from recsys.errors import InterruptedRunError, RecsysError, TemporaryError
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardOutcome:
    """Outcome of one attempt: a result, or an error as text that can be sent between processes."""

    shard: Shard
    result: Any = None
    error: str | None = None
    kind: type[Exception] | None = None

    def to_exception(self) -> Exception:
        """Return the error as an exception; a RecsysError keeps its class, and so its exit code."""
        message = self.error or "unknown error"
        if self.kind is not None and issubclass(self.kind, RecsysError) and self.kind is not InterruptedRunError:
            return self.kind(message)
        return RuntimeError(message)


def run_shard(task: ShardTask[Any], shard: Shard) -> ShardOutcome:
    """Run a shard once; errors are returned as text, because not every exception can be pickled."""
    try:
        return ShardOutcome(shard, task.run(shard))
    except InterruptedRunError:
        raise
    except RecsysError as error:
        return ShardOutcome(shard, error=str(error), kind=type(error))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        message = " ".join(str(error).split())[:300]
        return ShardOutcome(shard, error=f"{type(error).__name__}: {message} (worker, {where})", kind=RuntimeError)


class ShardQueue:
    """Shards of one call; a shard with a temporary error is retried at most `retries` times."""

    def __init__(self, shards: Iterable[Shard], *, retries: int) -> None:
        self._shards, self._retries = iter(shards), retries
        self._retry_queue: deque[Shard] = deque()
        self._failures: Counter[int] = Counter()

    def next_shard(self) -> Shard | None:
        """Return the next shard; None if there is none at the moment."""
        return self._retry_queue.popleft() if self._retry_queue else next(self._shards, None)

    def record_failure(self, shard: Shard, error: Exception) -> None:
        """Queue a shard for a retry, or raise its error.

        Raises:
            Exception: `error`, if it is not temporary or the retries are used up.
        """
        self._failures[shard.index] += 1
        failures = self._failures[shard.index]
        if not isinstance(error, TemporaryError) or failures > self._retries:
            raise error
        logger.warning(
            "%s shard %d of %d failed (%s); retrying, %d of %d",
            shard.stage, shard.index, shard.n_shards, error, failures, self._retries,
        )  # fmt: skip
        self._retry_queue.append(shard)


def available_cores() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
