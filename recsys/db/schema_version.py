"""Check the schema version of a database without importing Alembic.

In: an engine. Out: nothing, or an error if the schema is of a newer recsys.
"""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from recsys.db.engine import fetch_rows
from recsys.errors import RecsysError

VERSION_TABLE = "recsys_schema"


def known_versions() -> set[str]:
    """Return the schema versions of this recsys: the numbers that its migration files begin with."""
    names = (entry.name for entry in (files("recsys.sql.migrations") / "versions").iterdir())
    return {name.partition("_")[0] for name in names if name[:1].isdigit()}


def newer_schema_error(version: str) -> RecsysError:
    """Return the error for a schema version that this recsys does not know."""
    return RecsysError(
        f"the database has schema {version}, which this recsys does not know; install the newer recsys that made it"
    )


def refuse_newer_schema(engine: Engine) -> None:
    """Raise an error if a newer recsys has created the schema; a database without recsys tables passes.

    Raises:
        RecsysError: the schema version is unknown.
    """
    with engine.connect().execution_options(stream_results=True) as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return
    for (version,) in fetch_rows(engine, f"SELECT version_num FROM {VERSION_TABLE}"):  # noqa: S608 - a name of recsys
        if version not in known_versions():
            raise newer_schema_error(version)
