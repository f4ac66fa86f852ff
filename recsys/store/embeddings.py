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
from recsys.execution import memory
from recsys.store import tables
from recsys.store.recommendations import chunks
from recsys.types import FloatArray

_BATCH = 2000
"""Rows turned into columns at a time."""


def write(
    connection: Connection,
    dialect: Dialect,
    ids: Sequence[str],
    vectors: FloatArray,
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
    wanted = pl.DataFrame(
        {"product_id": ids, "content": hashes}, schema={"product_id": pl.String, "content": pl.UInt64}
    )
    stored = _stored(connection, model_version)
    gone = stored.join(wanted, on="product_id", how="anti")["product_id"].sort().to_list()
    for some in chunks(gone):
        connection.execute(sa.delete(table).where(table.c.product_id.in_(some)))
    changed = wanted.with_row_index("row").join(stored, on=["product_id", "content"], how="anti", maintain_order="left")
    if not changed.height:
        return 0
    little = vectors[changed["row"].to_numpy()].astype("<f4", copy=False)
    frame = changed.select(
        "product_id",
        pl.lit(model_version).alias("model_version"),
        pl.Series("content_hash", [f"{value:016x}" for value in changed["content"].to_list()], dtype=pl.String),
        pl.lit(vectors.shape[1], pl.Int32).alias("dim"),
        pl.Series("vector", [row.tobytes() for row in little], dtype=pl.Binary),
    )
    dialect.upsert(connection, table, frame)
    return changed.height


@memory.gc_paused()
def _stored(connection: Connection, model_version: str) -> pl.DataFrame:
    """What is stored: product_id, and as `content` the hash of what this model made the vector from, else null."""
    table = tables.product_embeddings
    own = sa.case((table.c.model_version == model_version, table.c.content_hash))
    result = connection.execute(sa.select(table.c.product_id, own))
    blocks = [pl.DataFrame(schema={"product_id": pl.String, "text": pl.String})]
    while block := result.fetchmany(_BATCH):
        products, texts = zip(*block, strict=True)
        blocks.append(pl.DataFrame({"product_id": products, "text": texts}, schema=blocks[0].schema))
    found = pl.concat(blocks)
    return found.select("product_id", content=pl.col("text").str.to_integer(base=16, dtype=pl.UInt64, strict=False))
