"""Predicted attribute values of products, as a table that other programs can read.

In: the predicted attributes, rows of predictions. Out: rows of predicted_attributes, earlier predictions replaced.
"""

from __future__ import annotations

from collections.abc import Collection

import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.db.dialects import Dialect
from recsys.store import tables

PREDICTION_SCHEMA = {
    "product_id": pl.String,
    "attribute": pl.String,
    "value": pl.String,
    "confidence": pl.Float64,
    "model_version": pl.String,
}
"""Columns of a frame of predictions."""


def replace_predictions(
    connection: Connection,
    dialect: Dialect,
    predictions: pl.DataFrame,
    *,
    attributes: Collection[str],
    model_version: str | None = None,
) -> int:
    """Replace earlier predictions by new ones.

    Args:
        connection: in a transaction.
        dialect: dialect of the database.
        predictions: columns `PREDICTION_SCHEMA`, each product and attribute once.
        attributes: attributes that were predicted: all earlier predictions of them are deleted, also those without
            a new one. Predictions of other attributes stay.
        model_version: if set, predictions of other model versions are deleted too, of any attribute.

    Returns:
        Number of predictions written.
    """
    table = tables.predicted_attributes
    for name in sorted(attributes):
        connection.execute(sa.delete(table).where(table.c.attribute == name))
    if model_version is not None:
        connection.execute(sa.delete(table).where(table.c.model_version != model_version))
    dialect.bulk_load(connection, table, predictions.select(*PREDICTION_SCHEMA))
    return predictions.height
