"""Bringing a database to the schema this version of recsys speaks.

In: an engine. Out: tables by the Alembic migrations of `recsys.sql.migrations`, views by `recsys.sql.views`.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from recsys.errors import RecsysError

VERSION_TABLE = "recsys_schema"


def upgrade(engine: Engine) -> str:
    """Apply the missing migrations and make the views again, in one transaction; return the schema's version.

    Raises:
        RecsysError: the database was made by a newer recsys.
    """
    with as_file(files("recsys.sql") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with engine.begin() as connection:
            before = _version(connection)
            if before is not None and before not in known:
                raise RecsysError(
                    f"the database has schema {before}, which this recsys does not know; install the newer recsys that made it"
                )
            config.attributes["connection"] = connection
            newest = ScriptDirectory.from_config(config).get_current_head()
            stale = before != newest
            if stale:
                command.upgrade(config, "head")
            _views(connection, again=stale)
            return _version(connection) or ""


def current(engine: Engine) -> str | None:
    """The schema version of a database, None where recsys has no tables."""
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _views(connection: Connection, *, again: bool) -> None:
    """Make the consumers' views; existing ones are left alone unless the tables moved under them."""
    present = set(sa.inspect(connection).get_view_names())
    for entry in sorted(files("recsys.sql.views").iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".sql"):
            continue
        name = entry.name.removesuffix(".sql")
        if name in present and not again:
            continue
        connection.exec_driver_sql(f'DROP VIEW IF EXISTS "{name}"')
        connection.exec_driver_sql(entry.read_text(encoding="utf-8"))
