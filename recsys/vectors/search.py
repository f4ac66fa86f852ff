"""Products like products, texts, pictures, or a mix of them.

In: one `Query`, the catalogue, its vectors and their index. Out: product_id, score, title; best first.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from recsys.config import ImageSettings
from recsys.data.catalogue import Catalogue
from recsys.errors import UsageError
from recsys.vectors.finder import Finder, QueryModel, Way
from recsys.vectors.index import VectorIndex
from recsys.vectors.lexical import Lexical
from recsys.vectors.query import Query
from recsys.vectors.table import EmbeddingTable

__all__ = ["Query", "Way", "similar"]


def similar(
    query: Query,
    *,
    catalogue: Catalogue,
    table: EmbeddingTable,
    index: VectorIndex,
    model_loader: Callable[[], QueryModel],
    k: int = 10,
    where: str | None = None,
    images: ImageSettings | None = None,
    lexical_loader: Callable[[], Lexical] | None = None,
    way: Way | None = None,
) -> pl.DataFrame:
    """The k products nearest to a query; a product asked for is not among its own neighbours, nor are its variants.

    Args:
        query: what to look for.
        catalogue: titles, variants, and columns for `where`; products newer than the table have no vector yet.
        table: vectors of products.
        index: over the table's vectors.
        model_loader: gives the model that made the table; called for a text or a picture only.
        k: how many.
        where: only products that meet this condition (`filters`).
        images: limits for picture files.
        lexical_loader: gives the index of words; the words are indexed now when it is needed and not given.
        way: how to look.

    Returns:
        Frame (product_id, score, title), at most k rows; fewer only where fewer products count.

    Raises:
        NotFoundError: a product is unknown, or has no vector yet.
        UsageError: the condition or a picture cannot be read.
        ModelFolderError: the table was made by another model than the one loaded.
    """
    finder = Finder(
        catalogue,
        table,
        index=index,
        model_loader=model_loader,
        lexical_loader=lexical_loader or (lambda: Lexical.build(catalogue)),
        images=images or ImageSettings(),
        way=way or Way(),
    )
    (found,) = finder.answers([query], k, where=[where])
    if isinstance(found, UsageError):
        raise found
    return found
