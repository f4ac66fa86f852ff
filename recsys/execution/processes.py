"""Shards run in several processes of this machine; one that dies is replaced and its shard is done again.

In: a task and its shards. Out: their results as they are finished. Workers are fresh interpreters (spawn): nothing of
this process is shared with them, neither connections nor locks nor threads.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from recsys.errors import InterruptedRunError, TemporaryError, UsageError
from recsys.execution import signals as stop
from recsys.execution.retries import ShardOutcome, ShardQueue, cores, run_shard
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)

R = TypeVar("R")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
_PATIENCE = 15.0
"""Seconds a worker has to end after it was told to; then it is killed."""
_LOOK = 0.5
"""Seconds between two looks at whether a signal has come."""


@dataclass
class _Worker:
    """A process, our end of the pipe to it, and the shard it is at."""

    process: BaseProcess
    pipe: Connection
    shard: Shard | None = None


class ProcessExecutor:
    """So many processes, each with its share of the cores."""

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """See `shards.Executor`; results come in the order they are finished.

        A process that dies counts as a temporary trouble of its shard.

        Raises:
            UsageError: fewer than one worker is asked for.
            TemporaryError: a shard's process died more often than `retries`.
            InterruptedRunError: a signal asked this process to stop; all workers have ended, no shard is half done.
        """
        if workers < 1:
            raise UsageError(f"the processes engine needs at least one worker, not {workers}")
        return self._run(task, ShardQueue(shards, retries=retries), workers)

    def _run(self, task: ShardTask[R], attempts: ShardQueue, workers: int) -> Iterator[tuple[Shard, R]]:
        crew: list[_Worker] = []
        try:
            while True:
                self._give(task, attempts, crew, workers)
                busy = [worker for worker in crew if worker.shard is not None]
                if not busy:
                    return
                wait([end for worker in busy for end in (worker.pipe, worker.process.sentinel)], timeout=_LOOK)
                stop.raise_pending_signal()
                for worker in busy:
                    outcome = self._heard(worker, attempts, crew)
                    if outcome is not None:
                        yield outcome.shard, outcome.result
        finally:
            with stop.defer_signals():
                _dismissed(crew)

    def _give(self, task: ShardTask[R], attempts: ShardQueue, crew: list[_Worker], workers: int) -> None:
        """A shard for everybody who has none; new processes as long as there is work for them."""
        while True:
            idle = next((worker for worker in crew if worker.shard is None), None)
            if idle is None and len(crew) >= workers:
                return
            shard = attempts.next()
            if shard is None:
                return
            if idle is None:
                idle = _hired(task, threads=max(1, cores() // workers))
                crew.append(idle)
            idle.shard = shard
            with suppress(BrokenPipeError, ConnectionResetError):  # it died: `_heard` finds out
                idle.pipe.send(shard)

    @staticmethod
    def _heard(worker: _Worker, attempts: ShardQueue, crew: list[_Worker]) -> ShardOutcome | None:
        """What a worker has to say: a result, an error to deal with, its death, or nothing yet."""
        shard, outcome = worker.shard, None
        assert shard is not None
        alive = worker.process.is_alive()  # asked first: what it sent before its death is still in the pipe
        try:
            if worker.pipe.poll():
                outcome = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(_PATIENCE)
            alive = False
        if outcome is None:
            if not alive:
                crew.remove(worker)
                code = worker.process.exitcode
                how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
                attempts.failed(
                    shard, TemporaryError(f"its worker process ended {how}; is there enough memory for all workers?")
                )
            return None
        worker.shard = None
        if outcome.error is not None:
            attempts.failed(shard, outcome.raised())
            return None
        return outcome  # type: ignore[no-any-return]  # a pipe does not know what comes through it


def _hired(task: ShardTask[R], *, threads: int) -> _Worker:
    """Start a process with so many threads for its libraries."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(task, theirs), daemon=True)
    with _limited(threads):
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """The environment a worker starts with; who has set fewer threads keeps them."""
    before = {name: os.environ.get(name) for name in _THREADS}
    try:
        for name, value in before.items():
            own = int(value) if value is not None and value.isdigit() and int(value) else threads
            os.environ[name] = str(min(own, threads))
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(task: ShardTask[R], pipe: Connection) -> None:
    """A worker's life: shards in, outcomes out, until the pipe closes or a signal comes."""
    ready = False
    with suppress(InterruptedRunError, EOFError, BrokenPipeError, ConnectionResetError), stop.handle_signals():
        while (shard := pipe.recv()) is not None:
            if not ready:
                outcome = run_shard(_Setup(task), shard)
                ready = outcome.error is None
            if ready:
                outcome = run_shard(task, shard)
            pipe.send(outcome)


@dataclass(frozen=True)
class _Setup:
    """A task's `setup` where a shard is expected, so that its errors travel like a shard's."""

    task: ShardTask[object]

    def setup(self) -> None:
        """Nothing to prepare."""

    def run(self, _: Shard) -> None:
        """Prepare the task."""
        self.task.setup()


def _dismissed(crew: list[_Worker]) -> None:
    """End all workers: those without work at once, the others where it is safe, all in `_PATIENCE` seconds."""
    for worker in crew:
        if worker.shard is not None:
            worker.process.terminate()
        else:
            with suppress(OSError):
                worker.pipe.send(None)
    end = time.monotonic() + _PATIENCE
    for worker in crew:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            logger.warning("worker process %s did not end in %.0f s and is killed", worker.process.pid, _PATIENCE)
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
    crew.clear()
