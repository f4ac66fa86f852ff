"""Which schema a database has, told without the library that makes it.

In: an engine. Out: nothing, or the error that a newer recsys made the database.
"""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from recsys.db.engine import rows
from recsys.errors import RecsysError

VERSION_TABLE = "recsys_schema"


def known_versions() -> set[str]:
    """Versions that this recsys can bring a database to: the numbers its migrations begin with."""
    names = (entry.name for entry in (files("recsys.sql.migrations") / "versions").iterdir())
    return {name.partition("_")[0] for name in names if name[:1].isdigit()}


def newer_schema_error(version: str) -> RecsysError:
    """The error for a schema that this recsys does not know."""
    return RecsysError(
        f"the database has schema {version}, which this recsys does not know; install the newer recsys that made it"
    )


def refuse_newer(engine: Engine) -> None:
    """Leave a database alone that a newer recsys has made; one without tables of recsys is no matter of this.

    Raises:
        RecsysError: the schema is not known.
    """
    with engine.connect().execution_options(stream_results=True) as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return
    for (version,) in rows(engine, f"SELECT version_num FROM {VERSION_TABLE}"):  # noqa: S608 - a name of our own
        if version not in known_versions():
            raise newer_schema_error(version)
