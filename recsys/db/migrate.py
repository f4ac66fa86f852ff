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

from recsys.db.schema_version import VERSION_TABLE, newer_schema_error
from recsys.errors import ConfigError
from recsys.execution.failpoints import failpoint

OURS = frozenset(
    (
        "products",
        "users",
        "events",
        "rejected_rows",
        "runs",
        "run_shards",
        "publications",
        "recommendations_all",
        "similar_products_all",
        "clusters_all",
        "cluster_members_all",
        "product_embeddings",
        "predicted_attributes",
        "forgotten_users",
        "source_marks",
        "recommendations",
        "similar_products",
        "product_clusters",
        "cluster_labels",
    )
)
"""Names of our tables and views; whoever else has one of them is not ours."""


def upgrade(engine: Engine) -> str:
    """Apply the missing migrations and make the views again, in one transaction; return the schema's version.

    Raises:
        RecsysError: the database was made by a newer recsys.
        ConfigError: the database is not empty and not ours: a table of the shop's own has a name that recsys needs.
    """
    with as_file(files("recsys.sql") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with engine.begin() as connection:
            before = _version(connection)
            if before is not None and before not in known:
                raise newer_schema_error(before)
            if before is None and not _half_made(connection):
                _refuse_foreign(connection)
            config.attributes["connection"] = connection
            newest = ScriptDirectory.from_config(config).get_current_head()
            stale = before != newest
            if stale:
                command.upgrade(config, "head")
            _views(connection, again=stale)
            version = _version(connection) or ""
            failpoint("db.migrate.commit.before")
        failpoint("db.migrate.commit.after")
        return version


def _half_made(connection: Connection) -> bool:
    """Clear away what an `init` left that was killed where tables are made outside transactions (MySQL).

    Alembic's own table is made first and gets its row last, so nobody can have written to the others.
    """
    if connection.dialect.name != "mysql" or VERSION_TABLE not in sa.inspect(connection).get_table_names():
        return False
    inspector = sa.inspect(connection)
    for name in sorted(OURS & set(inspector.get_view_names())):
        connection.exec_driver_sql(f'DROP VIEW "{name}"')
    for name in sorted(OURS & set(inspector.get_table_names())):
        connection.exec_driver_sql(f'DROP TABLE "{name}"')
    return True


def _refuse_foreign(connection: Connection) -> None:
    """Leave a shop's own `products` or `users` alone; the first migration would stumble over them."""
    inspector = sa.inspect(connection)
    there = {*inspector.get_table_names(), *inspector.get_view_names()}
    clash = sorted(there & OURS)
    if clash:
        raise ConfigError(
            f"the database has its own {', '.join(clash)}, not made by recsys; give recsys a database of its own "
            "in [database] url, and read the shop's tables with `recsys ingest --from-sql`"
        )


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
