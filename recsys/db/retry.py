"""Retry a transaction after a deadlock or on a busy database.

In: a function that runs one complete transaction. Out: its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from recsys.errors import BusyDatabaseError

T = TypeVar("T")
_MAX_ATTEMPTS: Final = 8


def retry_transaction(transaction: Callable[[], T]) -> T:
    """Run a transaction and retry it if the database is busy; a deadlock victim no longer blocks on retry.

    Raises:
        BusyDatabaseError: the database was busy on every attempt.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return transaction()
        except BusyDatabaseError:
            continue
    return transaction()
