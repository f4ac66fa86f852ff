"""Memory that is freed stays with the process for the next step, where the C library lets us ask for that.

In: nothing. Out: a context manager.

A training step frees what the next one asks for again. glibc gives large pieces back to the system at once, which then
hands out empty pages again, one fault a page: an eighth of the processor's time went there (docs/benchmarks.md). See
mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
_MANY: Final = 1 << 16
"""Pieces of their own that glibc maps at most, unless it is told otherwise."""
_MOST: Final = 2**31 - 1
"""Bytes, the most that can be asked for."""
_LARGEST: Final = 32 << 20
"""From here on glibc maps every piece of its own; what its own adjusting comes to at most."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Freed memory is kept inside, and given back at the end; elsewhere than with glibc nothing is done."""
    ask = _mallopt()
    if ask is None:
        yield
        return
    # Nothing is mapped on its own, and nothing is given back before two gigabytes are free.
    ask(_MMAP_MAX, 0)
    ask(_TRIM_THRESHOLD, _MOST)
    try:
        yield
    finally:
        ask(_MMAP_MAX, _MANY)
        ask(_MMAP_THRESHOLD, _LARGEST)
        ask(_TRIM_THRESHOLD, 2 * _LARGEST)
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt() -> Callable[[int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    ask: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    return ask


@contextmanager
def gc_paused() -> Iterator[None]:
    """No collection inside; for reading many rows at once, which the collector would look through again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
