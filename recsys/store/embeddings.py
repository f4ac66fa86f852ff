"""Product vectors as a table that other programs can read.

In: ids, vectors, content hashes. Out: rows of product_embeddings; unchanged rows are not written.
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
from recsys.store.recommendations import chunk_ids
from recsys.types import FloatArray

_FETCH_ROWS = 2000
"""Rows converted to columns at a time."""


def write_embeddings(
    connection: Connection,
    dialect: Dialect,
    ids: Sequence[str],
    vectors: FloatArray,
    *,
    model_version: str,
    hashes: npt.NDArray[np.uint64],
) -> int:
    """Write the vectors whose model or content hash changed; delete the vectors of removed products.

    Args:
        connection: in a transaction.
        dialect: dialect of the database.
        ids: product ids; the vectors of all other products are deleted.
        vectors: (n, d).
        model_version: the model that computed them.
        hashes: (n,) hashes of the content each vector was computed from.

    Returns:
        Number of vectors written.
    """
    table = tables.product_embeddings
    current = pl.DataFrame(
        {"product_id": ids, "content": hashes}, schema={"product_id": pl.String, "content": pl.UInt64}
    )
    stored = _read_content_hashes(connection, model_version)
    removed = stored.join(current, on="product_id", how="anti")["product_id"].sort().to_list()
    for chunk in chunk_ids(removed):
        connection.execute(sa.delete(table).where(table.c.product_id.in_(chunk)))
    changed = current.with_row_index("row").join(
        stored, on=["product_id", "content"], how="anti", maintain_order="left"
    )
    if not changed.height:
        return 0
    little_endian = vectors[changed["row"].to_numpy()].astype("<f4", copy=False)
    frame = changed.select(
        "product_id",
        pl.lit(model_version).alias("model_version"),
        pl.Series("content_hash", [f"{value:016x}" for value in changed["content"].to_list()], dtype=pl.String),
        pl.lit(vectors.shape[1], pl.Int32).alias("dim"),
        pl.Series("vector", [row.tobytes() for row in little_endian], dtype=pl.Binary),
    )
    dialect.upsert(connection, table, frame)
    return changed.height


@memory.pause_gc()
def _read_content_hashes(connection: Connection, model_version: str) -> pl.DataFrame:
    """Read stored rows: product_id and `content`, the content hash of this model's vector, else null."""
    table = tables.product_embeddings
    hash_of_model = sa.case((table.c.model_version == model_version, table.c.content_hash))
    result = connection.execute(sa.select(table.c.product_id, hash_of_model))
    blocks = [pl.DataFrame(schema={"product_id": pl.String, "text": pl.String})]
    while block := result.fetchmany(_FETCH_ROWS):
        products, texts = zip(*block, strict=True)
        blocks.append(pl.DataFrame({"product_id": products, "text": texts}, schema=blocks[0].schema))
    stored = pl.concat(blocks)
    return stored.select("product_id", content=pl.col("text").str.to_integer(base=16, dtype=pl.UInt64, strict=False))
