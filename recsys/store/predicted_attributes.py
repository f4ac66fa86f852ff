"""Values that products lack and the model has guessed, as a table that other programs can read.

In: attributes that were asked about, rows of guesses. Out: rows of predicted_attributes, old guesses replaced.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.db.dialects import Dialect
from recsys.store import tables

SCHEMA = {
    "product_id": pl.String,
    "attribute": pl.String,
    "value": pl.String,
    "confidence": pl.Float64,
    "model_version": pl.String,
}
"""The columns of a frame of guesses."""


def replace(
    connection: Connection,
    dialect: Dialect,
    guesses: pl.DataFrame,
    *,
    attributes: Collection[str],
    only: str | None = None,
) -> int:
    """Put guesses in the place of the older ones.

    Args:
        connection: in a transaction.
        dialect: the database's.
        guesses: columns `SCHEMA`, each product and attribute once.
        attributes: the attributes that were asked about: what stood about them goes, also where no guess takes its
            place. Guesses about others stay.
        only: a model version; when given, what other models guessed goes too, whatever it is about.

    Returns:
        Guesses written.
    """
    table = tables.predicted_attributes
    for name in sorted(attributes):
        connection.execute(sa.delete(table).where(table.c.attribute == name))
    if only is not None:
        connection.execute(sa.delete(table).where(table.c.model_version != only))
    dialect.bulk_load(connection, table, guesses.select(*SCHEMA))
    return guesses.height
