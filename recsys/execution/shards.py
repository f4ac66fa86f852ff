"""Work cut into shards: a task describes what to do, a shard which part of it, an executor where it is done.

In: a number of shards and which are done already. Out: `Shard`s, and the protocols of tasks and executors. A shard
holds no rows: the task reads its input and writes its output itself, so it runs in this process or in another.
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
        stage: what is done, such as "recommend".
        index: which part, 0..of-1.
        of: how many parts there are.
    """

    run_id: str
    stage: str
    index: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise UsageError(f"shard {self.index} of {self.of} does not exist; shards are numbered from 0")


class ShardTask(Protocol[R_co]):
    """Work that can be done shard by shard, each shard at any time, in any order, and more than once.

    A second run of a shard must change nothing that the first has finished: executors repeat after errors.
    """

    def setup(self) -> None:
        """Open and load what every shard needs; called once in each worker before its first shard."""
        ...

    def run(self, shard: Shard) -> R_co:
        """Do one shard and say in a few numbers what was done."""
        ...


class Executor(Protocol):
    """Runs the shards of a task somewhere."""

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """Run every shard; give each one's result as it is finished, in any order.

        Args:
            task: what to do.
            shards: which parts.
            workers: how many run at the same time.
            retries: how often a shard that met a temporary trouble (`TemporaryError`) is run again.

        Raises:
            UsageError: the executor cannot run that many workers.
            Exception: what a shard raised, when it was not temporary or came once more than `retries`; shards not yet
                begun are dropped then.
        """
        ...


def plan(
    run_id: str, stage: str, of: int, *, done: Collection[int] = (), part: int = 0, parts: int = 1
) -> Iterator[Shard]:
    """The shards still to do, ascending.

    Args:
        run_id: the run.
        stage: what is done.
        of: number of shards in all.
        done: shards that are in the run's ledger already.
        part: with several machines, which of them this is (0..parts-1); it gets every `parts`-th shard.
        parts: how many machines share the shards.

    Raises:
        UsageError: there is no such part.
    """
    if not 0 <= part < parts:
        raise UsageError(f"part {part} of {parts} does not exist; parts are numbered from 0")
    return (Shard(run_id, stage, index, of) for index in range(part, of, parts) if index not in done)
