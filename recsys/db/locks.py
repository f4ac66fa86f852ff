"""How a store's lease is asked for: alone at once or not at all, or together with the other parts of a run.

In: a way to try a lock, what to do while nobody else holds it. Out: whether it is held.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

_SECONDS = 3.0
"""How long a part waits for another one that has the lease alone for a moment while it joins."""


def acquire_lease(ask: Callable[[str], bool], shared: Callable[[], None] | None) -> str:
    """Try to take a lock.

    Who shares first asks for it alone: if nobody else holds it, `shared` is called, and whatever it does is over
    before another process can join. Then the lock is shared.

    Args:
        ask: tries "alone" or "together" without waiting; a lock that was taken "alone" by the same holder before does
            not stand in the way of "together".
        shared: called while nobody else works on the store; None = take the lock alone.

    Returns:
        "" when another process holds it; "alone", "together", or "both" when it was taken alone first.
    """
    if shared is None:
        return "alone" if ask("alone") else ""
    end = time.monotonic() + _SECONDS
    while True:
        if ask("alone"):
            shared()
            if ask("together"):
                return "both"
        if ask("together"):
            return "together"
        if time.monotonic() > end:
            return ""
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - so that two parts do not ask in step
