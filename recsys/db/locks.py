"""Acquire the lease of a store: exclusively, or shared with the other parts of a run.

In: a function that tries a lock, a callback for exclusive use. Out: the mode in which the lease is held.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

_MAX_WAIT_S = 3.0
"""How long a part waits for another part that holds the lease exclusively while it joins."""


def acquire_lease(try_lock: Callable[[str], bool], on_exclusive: Callable[[], None] | None) -> str:
    """Try to acquire a lease.

    A process that shares the lease first tries to hold it exclusively: if no other process holds it, `on_exclusive` is
    called, and finishes before another process can join. Then the lease is shared.

    Args:
        try_lock: tries "alone" or "together" without waiting; a lock taken "alone" by the same holder does not prevent
            "together".
        on_exclusive: called while no other process works on the store; None acquires the lease exclusively.

    Returns:
        "" if another process holds it; "alone", "together", or "both" if it was first acquired exclusively.
    """
    if on_exclusive is None:
        return "alone" if try_lock("alone") else ""
    deadline = time.monotonic() + _MAX_WAIT_S
    while True:
        if try_lock("alone"):
            on_exclusive()
            if try_lock("together"):
                return "both"
        if try_lock("together"):
            return "together"
        if time.monotonic() > deadline:
            return ""
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - random, so that two parts do not retry in step
