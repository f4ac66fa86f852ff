"""Unchanged lists of an earlier run, copied to the next run inside the database.

In: a connection in a transaction, user ids. Out: the same rows under another run id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.data.schema import DEFAULT_USER
from recsys.store import tables

_IDS_PER_STATEMENT = 500
"""Ids in one statement: below SQLite's limit on parameters."""


@dataclass(frozen=True)
class CarriedOverLists:
    """Users whose lists are copied.

    Attributes:
        run_id: the finished run they are copied from.
        users: ids of the users whose lists are carried over, ascending.
        excluded_users: ids between the first and the last of them whose lists are not carried over, ascending.
    """

    run_id: str
    users: Sequence[str]
    excluded_users: Sequence[str]

    def copy_to(self, connection: Connection, target: sa.Table, run_id: str, *, placement: str) -> int:
        """Copy the rows to run `run_id`, which has no rows of these users yet.

        Each statement scans a range of the key in order and excludes some ids: much faster than looking up every
        user.

        Args:
            connection: in a transaction.
            target: table that stores the rows of that run.
            run_id: that run.
            placement: placement of the lists.

        Returns:
            Number of rows copied.
        """
        table = tables.recommendations_all
        column_names = [column.name for column in table.columns]
        values = [sa.literal(run_id) if name == "run_id" else table.c[name] for name in column_names]
        rows = sa.select(*values).where(table.c.run_id == self.run_id, table.c.placement == placement)
        count = 0
        for first, last, excluded in self._split_ranges():
            in_range = (
                table.c.user_id >= first,
                table.c.user_id <= last,
                table.c.user_id.not_in([*excluded, DEFAULT_USER]),
            )
            statement = sa.insert(target).from_select(column_names, rows.where(*in_range))
            # by default, SQLAlchemy does not keep the row count of an INSERT
            count += connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount
        return count

    def _split_ranges(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """Yield the first and last id of each range and the ids to exclude from it, a few at a time."""
        first, boundary = self.users[0], list[str]()
        for start in range(0, max(1, len(self.excluded_users)), _IDS_PER_STATEMENT):
            chunk = list(self.excluded_users[start : start + _IDS_PER_STATEMENT])
            last = chunk[-1] if start + _IDS_PER_STATEMENT < len(self.excluded_users) else self.users[-1]
            yield first, last, [*boundary, *chunk]
            first, boundary = last, [last]  # the last id starts the next range and is excluded there too
