"""Which shard is next, and how often one may be tried again: what every engine with several workers needs to know.

In: shards, what became of each try. Out: the next shard; the last error of one that failed too often.
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
    """What became of one try: a result, or an error in words that can travel between processes."""

    shard: Shard
    result: Any = None
    error: str | None = None
    kind: type[Exception] | None = None

    def raised(self) -> Exception:
        """The error as an exception of its own kind where that is one of ours, so that its exit code stays."""
        words = self.error or "it failed"
        if self.kind is not None and issubclass(self.kind, RecsysError) and self.kind is not InterruptedRunError:
            return self.kind(words)
        return RuntimeError(words)


def run_shard(task: ShardTask[Any], shard: Shard) -> ShardOutcome:
    """Run a shard once; an error becomes words, because not every exception can travel."""
    try:
        return ShardOutcome(shard, task.run(shard))
    except InterruptedRunError:
        raise
    except RecsysError as error:
        return ShardOutcome(shard, error=str(error), kind=type(error))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        words = " ".join(str(error).split())[:300]
        return ShardOutcome(shard, error=f"{type(error).__name__}: {words} (worker, {where})", kind=RuntimeError)


class ShardQueue:
    """The shards of one call: given out, given out again after a temporary trouble, at most `retries` times each."""

    def __init__(self, shards: Iterable[Shard], *, retries: int) -> None:
        self._shards, self._retries = iter(shards), retries
        self._again: deque[Shard] = deque()
        self._failed: Counter[int] = Counter()

    def next(self) -> Shard | None:
        """The next shard to do; None when there is none at the moment."""
        return self._again.popleft() if self._again else next(self._shards, None)

    def failed(self, shard: Shard, error: Exception) -> None:
        """Put a shard back, or raise its error.

        Raises:
            Exception: `error`, when it is not temporary or came once more than `retries`.
        """
        self._failed[shard.index] += 1
        count = self._failed[shard.index]
        if not isinstance(error, TemporaryError) or count > self._retries:
            raise error
        logger.warning(
            "%s shard %d of %d failed (%s); trying again, %d of %d",
            shard.stage, shard.index, shard.of, error, count, self._retries,
        )  # fmt: skip
        self._again.append(shard)


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
