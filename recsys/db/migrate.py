"""Create or upgrade the schema of a database to the version of this recsys.

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

RECSYS_TABLES = frozenset(
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
"""Tables and views of recsys; in a database without a schema version, they belong to another program."""


def upgrade(engine: Engine) -> str:
    """Apply missing migrations and recreate the views, in one transaction; return the schema version.

    Raises:
        RecsysError: a newer recsys has created the schema.
        ConfigError: the database has tables of another program under names that recsys needs.
    """
    with as_file(files("recsys.sql") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        known_versions = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with engine.begin() as connection:
            previous = _read_version(connection)
            if previous is not None and previous not in known_versions:
                raise newer_schema_error(previous)
            if previous is None and not _drop_incomplete_schema(connection):
                _refuse_foreign_tables(connection)
            config.attributes["connection"] = connection
            newest = ScriptDirectory.from_config(config).get_current_head()
            is_outdated = previous != newest
            if is_outdated:
                command.upgrade(config, "head")
            _create_views(connection, recreate=is_outdated)
            version = _read_version(connection) or ""
            failpoint("db.migrate.commit.before")
        failpoint("db.migrate.commit.after")
        return version


def _drop_incomplete_schema(connection: Connection) -> bool:
    """Drop the tables of an interrupted `init` if DDL is not transactional (MySQL).

    Alembic's own table is created first and gets its row last, so no data can have been written to the others.

    Returns:
        Whether an incomplete schema was found.
    """
    if connection.dialect.name != "mysql" or VERSION_TABLE not in sa.inspect(connection).get_table_names():
        return False
    inspector = sa.inspect(connection)
    for name in sorted(RECSYS_TABLES & set(inspector.get_view_names())):
        connection.exec_driver_sql(f'DROP VIEW "{name}"')
    for name in sorted(RECSYS_TABLES & set(inspector.get_table_names())):
        connection.exec_driver_sql(f'DROP TABLE "{name}"')
    return True


def _refuse_foreign_tables(connection: Connection) -> None:
    """Raise an error if another program's tables have names that recsys needs.

    The first migration would fail on them.
    """
    inspector = sa.inspect(connection)
    existing = {*inspector.get_table_names(), *inspector.get_view_names()}
    clash = sorted(existing & RECSYS_TABLES)
    if clash:
        raise ConfigError(
            f"the database has its own {', '.join(clash)}, not made by recsys; use a separate database for recsys "
            "in [database] url, and read the existing tables with `recsys ingest --from-sql`"
        )


def current_version(engine: Engine) -> str | None:
    """Return the schema version of a database; None if it has no tables of recsys."""
    with engine.connect() as connection:
        return _read_version(connection)


def _read_version(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _create_views(connection: Connection, *, recreate: bool) -> None:
    """Create the views; existing views are replaced only if the tables have changed."""
    present = set(sa.inspect(connection).get_view_names())
    for entry in sorted(files("recsys.sql.views").iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".sql"):
            continue
        name = entry.name.removesuffix(".sql")
        if name in present and not recreate:
            continue
        connection.exec_driver_sql(f'DROP VIEW IF EXISTS "{name}"')
        connection.exec_driver_sql(entry.read_text(encoding="utf-8"))
