"""A transaction that was in another one's way, or found the database busy, is made again.

In: what to do, whole in one transaction. Out: its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from recsys.errors import BusyDatabaseError

T = TypeVar("T")
_TRIES: Final = 8


def retry_transaction(act: Callable[[], T]) -> T:
    """Do it, a few times if need be; whoever was chosen as a deadlock's victim waits for nobody the next time.

    Raises:
        BusyDatabaseError: it was busy every time.
    """
    for _ in range(_TRIES - 1):
        try:
            return act()
        except BusyDatabaseError:
            continue
    return act()
