"""Batches made ahead in a background thread, so that a step need not wait for its own.

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

_AHEAD: Final = 2


class BatchSource(Protocol):
    """Gives the batch of any step."""

    steps_per_pass: int

    def at(self, step: int) -> Any:
        """The batch of a step, a pure function of its number."""
        ...


class PrefetchLoader:
    """Context manager: makes the batches of the steps first .. steps - 1, at most two ahead of the one taken.

    An error in the making is raised by `take` when its step comes. The thread is gone when the block is left.
    """

    def __init__(self, batches: BatchSource, first: int, steps: int, *, pin: bool) -> None:
        """`pin`: hold the tensors in memory a CUDA device can copy from by itself."""
        self._batches, self._range, self._pin = batches, range(first, steps), pin
        self._made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self.waited = 0.0
        """Seconds that `take` had to wait, all in all."""

    def __enter__(self) -> PrefetchLoader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._room.release()
        self._thread.join()

    def _work(self) -> None:
        try:
            for step in self._range:
                self._room.acquire()
                if self._ended:
                    return
                batch = self._batches.at(step)
                self._made.put((pin_memory(batch) if self._pin else batch, None))
        except BaseException as error:  # whatever it is, it belongs to the one who asked for the batch
            self._made.put((None, error))

    def next_batch(self) -> Any:
        """The next batch.

        Raises:
            Exception: what making it raised.
        """
        started = time.monotonic()
        batch, error = self._made.get()
        self.waited += time.monotonic() - started
        if error is not None:
            raise error
        self._room.release()
        return batch


def pin_memory(held: Any) -> Any:
    """The same with every tensor in pinned memory: of dictionaries and dataclasses, whatever they hold else."""
    if isinstance(held, Tensor):
        return held.pin_memory()
    if isinstance(held, dict):
        return {name: pin_memory(value) for name, value in held.items()}
    if dataclasses.is_dataclass(held) and not isinstance(held, type):
        names = [field.name for field in dataclasses.fields(held) if field.init]
        tensors = {name: getattr(held, name) for name in names if isinstance(getattr(held, name), (Tensor, dict))}
        return dataclasses.replace(held, **{name: pin_memory(value) for name, value in tensors.items()})
    return held
