"""The vectors of the products, as a table that other programs can read.

In: ids, vectors, what each was made from. Out: rows of product_embeddings; rows that did not change are not written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from recsys.db.dialects import Dialect
from recsys.store import tables
from recsys.store.lists import ASKED


def write(
    connection: Connection,
    dialect: Dialect,
    ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    *,
    model_version: str,
    hashes: npt.NDArray[np.uint64],
) -> int:
    """Write the vectors that differ from what is stored, by model and content hash; drop those of gone products.

    Args:
        connection: in a transaction.
        dialect: the database's.
        ids: product ids; products not among them lose their vector.
        vectors: (n, d).
        model_version: the model that made them.
        hashes: (n,) what each was made from.

    Returns:
        Vectors written.
    """
    table = tables.product_embeddings
    names = [f"{value:016x}" for value in hashes.tolist()]
    known = connection.execute(sa.select(table.c.product_id, table.c.model_version, table.c.content_hash)).all()
    stored = {product: (model, content) for product, model, content in known}
    rows = [row for row, name in enumerate(ids) if stored.get(name) != (model_version, names[row])]
    gone = sorted(set(stored) - set(ids))
    for start in range(0, len(gone), ASKED):
        connection.execute(sa.delete(table).where(table.c.product_id.in_(gone[start : start + ASKED])))
    little = np.ascontiguousarray(vectors, "<f4")
    frame = pl.DataFrame(
        {
            "product_id": [ids[row] for row in rows],
            "model_version": [model_version] * len(rows),
            "content_hash": [names[row] for row in rows],
            "dim": [vectors.shape[1]] * len(rows),
            "vector": [little[row].tobytes() for row in rows],
        },
        schema={
            "product_id": pl.String,
            "model_version": pl.String,
            "content_hash": pl.String,
            "dim": pl.Int32,
            "vector": pl.Binary,
        },
    )
    dialect.upsert(connection, table, frame)
    return len(rows)
