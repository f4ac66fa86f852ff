"""Lists of an earlier run that stay as they are: copied from run to run inside the database.

In: a connection in a transaction, user ids. Out: the same rows under another run's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.schema import DEFAULT_USER
from recsys.store import tables

_NAMED = 500
"""Ids in one statement: below SQLite's limit on parameters."""


@dataclass(frozen=True)
class CarriedOverLists:
    """What is copied.

    Attributes:
        run_id: the finished run it comes from.
        users: ids of the users whose lists stay, ascending.
        others: ids from the first to the last of them whose lists do not stay, ascending.
    """

    run_id: str
    users: Sequence[str]
    others: Sequence[str]

    def copy(self, connection: Connection, into: sa.Table, run_id: str, *, placement: str) -> int:
        """Copy the rows to run `run_id`, which has none of these users yet.

        A statement reads a range of the key in its order and leaves the others out: much quicker than looking every
        user up.

        Args:
            connection: in a transaction.
            into: where the rows of that run are written.
            run_id: that run.
            placement: whose lists.

        Returns:
            How many rows.
        """
        table = tables.recommendations_all
        names = [column.name for column in table.columns]
        values = [sa.literal(run_id) if name == "run_id" else table.c[name] for name in names]
        chosen = sa.select(*values).where(table.c.run_id == self.run_id, table.c.placement == placement)
        count = 0
        for first, last, out in self._ranges():
            within = (table.c.user_id >= first, table.c.user_id <= last, table.c.user_id.not_in([*out, DEFAULT_USER]))
            copied = sa.insert(into).from_select(names, chosen.where(*within))
            # without being asked, SQLAlchemy does not keep the count of an INSERT
            count += connection.execute(copied, execution_options={"preserve_rowcount": True}).rowcount
        return count

    def _ranges(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """First and last id and the ids between them to leave out, few at a time."""
        first, carried = self.users[0], list[str]()
        for start in range(0, max(1, len(self.others)), _NAMED):
            some = list(self.others[start : start + _NAMED])
            last = some[-1] if start + _NAMED < len(self.others) else self.users[-1]
            yield first, last, [*carried, *some]
            first, carried = last, [last]  # the last of them begins the next range and is left out there too
