"""Split work into shards: a task says what to do, a shard which part, and an executor runs it.

In: a number of shards and the finished ones. Out: `Shard`s, and the protocols of tasks and executors. A shard holds no
rows: the task reads its input and writes its output itself, so it runs in this process or in another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from recsys.errors import UsageError

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


@dataclass(frozen=True)
class Shard:
    """One part of a stage of a run.

    Attributes:
        run_id: the run the output belongs to.
        stage: name of the stage, such as "recommend".
        index: number of the part, 0..n_shards-1.
        n_shards: number of parts.
    """

    run_id: str
    stage: str
    index: int
    n_shards: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.n_shards:
            raise UsageError(f"shard {self.index} of {self.n_shards} does not exist; shards are numbered from 0")


class ShardTask(Protocol[R_co]):
    """Work that can be done shard by shard, at any time, in any order, and more than once.

    Running a shard again must not change finished output: executors retry after errors.
    """

    def setup(self) -> None:
        """Load everything the shards need; called once in each worker before its first shard."""
        ...

    def run(self, shard: Shard) -> R_co:
        """Run one shard and return a few numbers that summarise its output."""
        ...


class Executor(Protocol):
    """Runs the shards of a task."""

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """Run every shard; yield each result when it is finished, in any order.

        Args:
            task: the task.
            shards: its shards.
            workers: number of workers that run at the same time.
            retries: how often a shard with a temporary error (`TemporaryError`) is run again.

        Raises:
            UsageError: the executor cannot run that many workers.
            Exception: the error of a shard, if it is not temporary or the retries are used up; shards that have not
                begun are dropped then.
        """
        ...


def plan_shards(
    run_id: str, stage: str, n_shards: int, *, finished: Collection[int] = (), part: int = 0, parts: int = 1
) -> Iterator[Shard]:
    """Yield the shards to run, in ascending order.

    Args:
        run_id: the run.
        stage: name of the stage.
        n_shards: total number of shards.
        finished: shards that are already in the run's ledger.
        part: with several machines, the number of this one (0..parts-1); it gets every `parts`-th shard.
        parts: number of machines that share the shards.

    Raises:
        UsageError: there is no such part.
    """
    if not 0 <= part < parts:
        raise UsageError(f"part {part} of {parts} does not exist; parts are numbered from 0")
    return (Shard(run_id, stage, index, n_shards) for index in range(part, n_shards, parts) if index not in finished)
