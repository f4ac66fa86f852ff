"""Table of the nearest products of every product.

In: vectors and their index. Out: rows product_id, rank, neighbour_id, score.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.execution.progress import Progress
from recsys.types import BoolArray, IntArray
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index.build import VectorIndex
from recsys.vectors.search import variants

RANK: Final = "rank"
NEIGHBOUR_ID: Final = "neighbour_id"
SCORE: Final = "score"

_SCHEMA: Final = {schema.PRODUCT_ID: pl.String, RANK: pl.Int32, NEIGHBOUR_ID: pl.String, SCORE: pl.Float32}
_BLOCK = 2048
"""Products searched at a time."""


def nearest_neighbours(
    table: EmbeddingTable,
    index: VectorIndex,
    k: int,
    *,
    allow: BoolArray | None = None,
    groups: IntArray | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return the k nearest other products of each product, best first, ranks 1..k.

    A product that may not be a neighbour, such as one that is sold out, still gets neighbours: they are the
    alternatives on its page.

    Args:
        table: vectors of n products.
        index: over the same vectors.
        k: neighbours per product; fewer where fewer other products are allowed.
        allow: (n,) bool, products that may be a neighbour; all when None.
        groups: (n,) int64 variant group of each product (`variants.variant_groups`): one variant represents its group,
            and a product's own variants are not its neighbours. None = no two products are variants.
        progress: called with the number of products done.

    Returns:
        Frame (product_id, rank, neighbour_id, score) in row order of the table.
    """
    product_ids = np.array(table.ids.texts, dtype=np.object_)
    product_groups = np.arange(len(table), dtype=np.int64) if groups is None else groups
    blocks = []
    for start in range(0, len(table), _BLOCK):
        block_rows = np.arange(start, min(start + _BLOCK, len(table)))
        queries = np.ascontiguousarray(table.vectors[block_rows])
        excluded = list(product_groups[block_rows][:, None])
        scores, rows = variants.search_distinct(index, queries, k, allow=allow, groups=groups, excluded=excluded)
        exists = rows >= 0
        rank = np.broadcast_to(np.arange(1, k + 1), exists.shape)[exists]
        product = np.broadcast_to(block_rows[:, None], exists.shape)[exists]
        blocks.append(
            pl.DataFrame(
                {
                    schema.PRODUCT_ID: pl.Series(product_ids[product].tolist(), dtype=pl.String),
                    RANK: rank.astype(np.int32),
                    NEIGHBOUR_ID: pl.Series(product_ids[rows[exists]].tolist(), dtype=pl.String),
                    SCORE: scores[exists],
                }
            )
        )
        if progress is not None:
            progress(start + len(block_rows), len(table))
    return pl.concat(blocks) if blocks else pl.DataFrame(schema=_SCHEMA)
