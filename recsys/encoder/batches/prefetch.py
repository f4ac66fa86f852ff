"""Prefetch batches in a background thread, so that a training step does not wait for its batch.

In: batches, each a pure function of its step. Out: the same batches in the same order, and the seconds waited for them.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from types import TracebackType
from typing import Any, Final, Protocol

from torch import Tensor

_MAX_PREFETCHED: Final = 2


class BatchSource(Protocol):
    """Source of the batch of any step."""

    steps_per_epoch: int

    def get_batch(self, step: int) -> Any:
        """Return the batch of a step, a pure function of its number."""
        ...


class PrefetchLoader:
    """Context manager: builds the batches of steps first .. steps - 1, at most two ahead of the consumer.

    An error while building a batch is raised by `next_batch` at that step. The thread ends with the block.
    """

    def __init__(self, batches: BatchSource, first_step: int, steps: int, *, pinned: bool) -> None:
        """Prepare the thread.

        Args:
            batches: source of the batches.
            first_step: first step.
            steps: number of the step after the last.
            pinned: copy the tensors to pinned memory, from which a CUDA device copies asynchronously.
        """
        self._batches, self._range, self._pin = batches, range(first_step, steps), pinned
        self._ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._slots = threading.Semaphore(_MAX_PREFETCHED)
        self._closed = False
        self._thread = threading.Thread(target=self._prefetch, name="batches", daemon=True)
        self.waited_seconds = 0.0
        """Total seconds `next_batch` waited."""

    def __enter__(self) -> PrefetchLoader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._slots.release()
        self._thread.join()

    def _prefetch(self) -> None:
        try:
            for step in self._range:
                self._slots.acquire()
                if self._closed:
                    return
                batch = self._batches.get_batch(step)
                self._ready.put((pin_memory(batch) if self._pin else batch, None))
        except BaseException as error:  # any error is re-raised by the consumer of the batch
            self._ready.put((None, error))

    def next_batch(self) -> Any:
        """Return the next batch.

        Raises:
            Exception: the error raised while building it.
        """
        started = time.monotonic()
        batch, error = self._ready.get()
        self.waited_seconds += time.monotonic() - started
        if error is not None:
            raise error
        self._slots.release()
        return batch


def pin_memory(structure: Any) -> Any:
    """Copy every tensor of nested dictionaries and dataclasses to pinned memory; keep all other values."""
    if isinstance(structure, Tensor):
        return structure.pin_memory()
    if isinstance(structure, dict):
        return {name: pin_memory(value) for name, value in structure.items()}
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        names = [field.name for field in dataclasses.fields(structure) if field.init]
        tensors = {
            name: getattr(structure, name) for name in names if isinstance(getattr(structure, name), (Tensor, dict))
        }
        return dataclasses.replace(structure, **{name: pin_memory(value) for name, value in tensors.items()})
    return structure
