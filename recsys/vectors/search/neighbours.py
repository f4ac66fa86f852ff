"""The nearest products of every product, for the table consumers read.

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


def nearest_neighbours(
    table: EmbeddingTable,
    index: VectorIndex,
    k: int,
    *,
    allow: BoolArray | None = None,
    kin: IntArray | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """The k nearest other products of each product, best first, ranks 1..k.

    A product that may not be a neighbour, such as one that is sold out, has neighbours all the same: they are what its
    page can offer instead.

    Args:
        table: vectors of n products.
        index: over the same vectors.
        k: neighbours wanted; a product has fewer where fewer others count.
        allow: (n,) bool, products that may be a neighbour; all when None.
        kin: (n,) int64, variants of one product have the same number (`variants.variant_groups`): one of them stands for all,
            and a product's own variants are not its neighbours. None = no two products are variants.
        progress: told how many products are done.

    Returns:
        Frame (product_id, rank, neighbour_id, score) in row order of the table.
    """
    texts = np.array(table.ids.texts, dtype=np.object_)
    family = np.arange(len(table), dtype=np.int64) if kin is None else kin
    blocks = []
    for start in range(0, len(table), _BLOCK):
        own = np.arange(start, min(start + _BLOCK, len(table)))
        queries = np.ascontiguousarray(table.vectors[own])
        barred = list(family[own][:, None])
        scores, rows = variants.search_distinct(index, queries, k, allow=allow, kin=kin, barred=barred)
        real = rows >= 0
        rank = np.broadcast_to(np.arange(1, k + 1), real.shape)[real]
        product = np.broadcast_to(own[:, None], real.shape)[real]
        blocks.append(
            pl.DataFrame(
                {
                    schema.PRODUCT_ID: pl.Series(texts[product].tolist(), dtype=pl.String),
                    RANK: rank.astype(np.int32),
                    NEIGHBOUR_ID: pl.Series(texts[rows[real]].tolist(), dtype=pl.String),
                    SCORE: scores[real],
                }
            )
        )
        if progress is not None:
            progress(start + len(own), len(table))
    return pl.concat(blocks) if blocks else pl.DataFrame(schema=_SCHEMA)
