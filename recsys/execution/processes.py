"""Run shards in several processes of this machine; a dead process is replaced and its shard retried.

In: a task and its shards. Out: their results in order of completion. Workers are fresh interpreters (spawn): they share
no connections, locks or threads with this process.
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
from recsys.execution import signals
from recsys.execution.retries import ShardOutcome, ShardQueue, available_cores, run_shard
from recsys.execution.shards import Shard, ShardTask

logger = logging.getLogger(__name__)

R = TypeVar("R")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
_STOP_TIMEOUT_S = 15.0
"""Seconds a worker has to end after it was asked to; then it is killed."""
_POLL_S = 0.5
"""Seconds between checks for a pending signal."""


@dataclass
class _Worker:
    """A worker process, the local end of its pipe, and its current shard."""

    process: BaseProcess
    pipe: Connection
    shard: Shard | None = None


class ProcessExecutor:
    """Executor on worker processes, each with its share of the cores."""

    def map(
        self, task: ShardTask[R], shards: Iterable[Shard], *, workers: int = 1, retries: int = 0
    ) -> Iterator[tuple[Shard, R]]:
        """See `shards.Executor`; results are yielded in order of completion.

        A dead process counts as a temporary error of its shard.

        Raises:
            UsageError: fewer than one worker is requested.
            TemporaryError: a shard's process died more often than `retries`.
            InterruptedRunError: a signal asked this process to stop; all workers have ended, no shard is half done.
        """
        if workers < 1:
            raise UsageError(f"the processes engine needs at least one worker, not {workers}")
        return self._run(task, ShardQueue(shards, retries=retries), workers)

    def _run(self, task: ShardTask[R], queue: ShardQueue, max_workers: int) -> Iterator[tuple[Shard, R]]:
        workers: list[_Worker] = []
        try:
            while True:
                self._assign_shards(task, queue, workers, max_workers)
                busy = [worker for worker in workers if worker.shard is not None]
                if not busy:
                    return
                wait([handle for worker in busy for handle in (worker.pipe, worker.process.sentinel)], timeout=_POLL_S)
                signals.raise_pending_signal()
                for worker in busy:
                    outcome = self._poll_worker(worker, queue, workers)
                    if outcome is not None:
                        yield outcome.shard, outcome.result
        finally:
            with signals.defer_signals():
                _stop_workers(workers)

    def _assign_shards(self, task: ShardTask[R], queue: ShardQueue, workers: list[_Worker], max_workers: int) -> None:
        """Assign a shard to every idle worker; start new processes while there are shards for them."""
        while True:
            idle = next((worker for worker in workers if worker.shard is None), None)
            if idle is None and len(workers) >= max_workers:
                return
            shard = queue.next_shard()
            if shard is None:
                return
            if idle is None:
                idle = _start_worker(task, threads=max(1, available_cores() // max_workers))
                workers.append(idle)
            idle.shard = shard
            with suppress(BrokenPipeError, ConnectionResetError):  # it died: `_poll_worker` handles it
                idle.pipe.send(shard)

    @staticmethod
    def _poll_worker(worker: _Worker, queue: ShardQueue, workers: list[_Worker]) -> ShardOutcome | None:
        """Return the result of a worker; handle its error or death; None if there is no result."""
        shard, outcome = worker.shard, None
        assert shard is not None
        alive = worker.process.is_alive()  # checked first: messages sent before its death are still in the pipe
        try:
            if worker.pipe.poll():
                outcome = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(_STOP_TIMEOUT_S)
            alive = False
        if outcome is None:
            if not alive:
                workers.remove(worker)
                exit_code = worker.process.exitcode
                reason = (
                    f"by signal {-exit_code}"
                    if exit_code is not None and exit_code < 0
                    else f"with exit code {exit_code}"
                )
                queue.record_failure(
                    shard,
                    TemporaryError(
                        f"its worker process ended {reason}; check that there is enough memory for all workers"
                    ),
                )
            return None
        worker.shard = None
        if outcome.error is not None:
            queue.record_failure(shard, outcome.to_exception())
            return None
        return outcome  # type: ignore[no-any-return]  # messages of a pipe are untyped


def _start_worker(task: ShardTask[R], *, threads: int) -> _Worker:
    """Start a process whose libraries use `threads` threads."""
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    process = context.Process(target=_run_worker, args=(task, child_end), daemon=True)
    with _thread_limit(threads):
        process.start()
    child_end.close()
    return _Worker(process, parent_end)


@contextmanager
def _thread_limit(threads: int) -> Iterator[None]:
    """Set the environment of a new worker; lower thread limits set by the user stay."""
    previous = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    try:
        for name, value in previous.items():
            limit = int(value) if value is not None and value.isdigit() and int(value) else threads
            os.environ[name] = str(min(limit, threads))
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_worker(task: ShardTask[R], pipe: Connection) -> None:
    """Main loop of a worker: receive shards and send outcomes until the pipe closes or a signal comes."""
    ready = False
    with suppress(InterruptedRunError, EOFError, BrokenPipeError, ConnectionResetError), signals.handle_signals():
        while (shard := pipe.recv()) is not None:
            if not ready:
                outcome = run_shard(_Setup(task), shard)
                ready = outcome.error is None
            if ready:
                outcome = run_shard(task, shard)
            pipe.send(outcome)


@dataclass(frozen=True)
class _Setup:
    """A task's `setup` in the form of a task, so that its errors are sent like those of a shard."""

    task: ShardTask[object]

    def setup(self) -> None:
        """Do nothing."""

    def run(self, _: Shard) -> None:
        """Set the task up."""
        self.task.setup()


def _stop_workers(workers: list[_Worker]) -> None:
    """End all workers within `_STOP_TIMEOUT_S`: idle ones at once, busy ones at a safe point."""
    for worker in workers:
        if worker.shard is not None:
            worker.process.terminate()
        else:
            with suppress(OSError):
                worker.pipe.send(None)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            logger.warning(
                "worker process %s did not end within %.0f s; killing it", worker.process.pid, _STOP_TIMEOUT_S
            )
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
    workers.clear()
