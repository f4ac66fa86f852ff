"""A lock of MySQL and MariaDB that one session can hold alone, or several together; their own can only be held alone.

In: a connection. Out: whether the lock is held; it ends with the session.

Who holds the lock alone has the gate. Who shares it has one of the places, taken while passing through the gate; and
nobody has the gate alone while a place is taken.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_PLACES = 256
"""How many may hold the lock together."""


class NamedLocks:
    """The locks of one session."""

    def __init__(self, connection: Connection) -> None:
        """Look where the locks are: their names are the server's, so the database is part of them."""
        self._connection = connection
        self._name = str(connection.execute(sa.text("SELECT CONCAT('recsys.', MD5(DATABASE()))")).scalar_one())
        self._gate = False

    def ask(self, how: str) -> bool:
        """Try to hold the lock "alone" or "together", without waiting; see `lease.taken`."""
        if not self._gate and not self._get("gate"):
            return False
        self._gate = True
        held = not self._anybody() if how == "alone" else any(self._get(place) for place in range(_PLACES))
        if how == "together" or not held:
            self._connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": f"{self._name}.gate"})
            self._gate = False
        return held

    def _get(self, lock: str | int) -> bool:
        asked = sa.text("SELECT GET_LOCK(:name, 0)")
        return bool(self._connection.execute(asked, {"name": f"{self._name}.{lock}"}).scalar_one() == 1)

    def _anybody(self) -> bool:
        """Whether a place is taken."""
        free = " AND ".join(f"IS_FREE_LOCK(CONCAT(:name, '.{place}'))" for place in range(_PLACES))
        return not self._connection.execute(sa.text(f"SELECT {free}"), {"name": self._name}).scalar_one()  # noqa: S608
