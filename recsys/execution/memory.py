"""Keep freed memory in the process for the next step, and pause garbage collection.

In: nothing. Out: context managers.

A training step frees memory that the next step allocates again. By default glibc returns large blocks to the system,
which then provides empty pages again, with one page fault each: an eighth of the CPU time was spent there
(docs/benchmarks.md). See mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # from malloc.h
_DEFAULT_MMAP_MAX: Final = 1 << 16
"""Default maximum number of mapped blocks in glibc."""
_MAX_INT: Final = 2**31 - 1
"""Largest value of mallopt, in bytes."""
_MAX_MMAP_THRESHOLD: Final = 32 << 20
"""Block size in bytes from which glibc always maps; upper bound of its dynamic threshold."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory inside the block and release it at the end; no effect without glibc."""
    mallopt = _find_mallopt()
    if mallopt is None:
        yield
        return
    # No block is mapped separately, and memory is returned only when two gigabytes are free.
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _MAX_INT)
    try:
        yield
    finally:
        mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2 * _MAX_MMAP_THRESHOLD)
        ctypes.CDLL(None).malloc_trim(0)


def _find_mallopt() -> Callable[[int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    return function


@contextmanager
def pause_gc() -> Iterator[None]:
    """Pause garbage collection while many rows are read: the collector would scan them repeatedly."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
