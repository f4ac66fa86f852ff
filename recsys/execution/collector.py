"""Python's garbage collector, held off where it can only find what is still needed.

In: `with collector.paused(): rows = [...]`. Out: the same rows, up to twice as fast.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection inside; for reading many rows at once, which the collector would look through again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
