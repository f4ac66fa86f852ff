"""Products like a product, a text, a picture, or a mix of them.

In: a `Query`, the catalogue, its vectors and their index. Out: product_id, score, title; best first. The model is only
asked for when there is a text or a picture to encode, so that a search by product starts without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.config import ImageSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.errors import ModelFolderError, NotFoundError, UsageError
from recsys.vectors import filters
from recsys.vectors.exact import Flags, Rows, Vectors
from recsys.vectors.index import VectorIndex
from recsys.vectors.table import EmbeddingTable

SCORE: Final = "score"
PARTS: Final = ("product", "text", "image")


class QueryModel(Protocol):
    """What is asked of a model to search by text or picture."""

    @property
    def content_version(self) -> str:
        """Names the weights that vectors come from."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts: (q, d) float32, unit length."""
        ...

    def encode_pictures(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """Vectors of pictures (q, 3, S, S) uint8: (q, d) float32, unit length."""
        ...


@dataclass(frozen=True)
class Query:
    """What to look for: one of these, or several mixed.

    Attributes:
        product: a product id.
        text: any text.
        image: a picture file.
        weights: how much "product", "text" and "image" count in a mix; 1 each unless named.
    """

    product: str | None = None
    text: str | None = None
    image: Path | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.product is None and self.image is None and not (self.text or "").strip():
            raise UsageError("nothing to look for: name a product, a text or a picture")
        for name, weight in self.weights.items():
            if name not in PARTS or not np.isfinite(weight):
                raise UsageError(f"weight of '{name}' is {weight}; weights are numbers for {', '.join(PARTS)}")


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
    sellable_only: bool = True,
) -> pl.DataFrame:
    """The k products nearest to a query; a product asked for is not among its own neighbours.

    Args:
        query: what to look for.
        catalogue: titles and columns for `where`; products newer than the table cannot be found yet.
        table: vectors of products.
        index: over the table's vectors.
        model_loader: gives the model that made the table; called for a text or a picture only.
        k: how many.
        where: only products that meet this condition (`filters`).
        images: limits for the picture file.
        sellable_only: leave out products that may not be sold now.

    Returns:
        Frame (product_id, score, title), at most k rows; fewer only where fewer products count.

    Raises:
        NotFoundError: the product is unknown, or has no vector yet.
        UsageError: the condition or the picture cannot be read.
        ModelFolderError: the table was made by another model than the one loaded.
    """
    at = _positions(catalogue, table)
    allow = np.zeros(len(table), np.bool_)
    held = at >= 0
    allow[held] = _allowed(catalogue, where, sellable_only=sellable_only)[at[held]]
    own = None if query.product is None else _row(query.product, catalogue, table)
    if own is not None:
        allow[own] = False
    vector = _vector(query, None if own is None else table.vectors[own], table, model_loader, images or ImageSettings())
    scores, rows = index.search(vector[None, :], k, allow=allow)
    found = rows[0] >= 0
    products = at[rows[0][found]]
    return pl.DataFrame(
        {
            schema.PRODUCT_ID: catalogue.ids.ids(products),
            SCORE: scores[0][found],
            schema.TITLE: catalogue.titles(products),
        },
        schema={schema.PRODUCT_ID: pl.String, SCORE: pl.Float32, schema.TITLE: pl.String},
    )


def _positions(catalogue: Catalogue, table: EmbeddingTable) -> Rows:
    """Catalogue row of each table row, -1 for products the catalogue no longer has: (n,) int64."""
    if catalogue.ids.texts == table.ids.texts:
        return np.arange(len(table), dtype=np.int64)
    return catalogue.ids.rows(table.ids.texts)


def _allowed(catalogue: Catalogue, where: str | None, *, sellable_only: bool) -> Flags:
    allowed = catalogue.sellable if sellable_only else np.ones(len(catalogue), np.bool_)
    return allowed if where is None else allowed & filters.parse(where, catalogue.frame)


def _row(product: str, catalogue: Catalogue, table: EmbeddingTable) -> int:
    row = int(table.ids.rows([product])[0])
    if row >= 0:
        return row
    if product in catalogue.ids:
        raise NotFoundError(f"product '{product}' has no vector yet; run 'recsys embed'")
    raise catalogue.ids.unknown("product", product)


def _vector(
    query: Query, own: Vectors | None, table: EmbeddingTable, load: Callable[[], QueryModel], images: ImageSettings
) -> Vectors:
    """The unit vectors of the query's parts, weighted, summed, and brought to unit length: (d,) float32."""
    parts: dict[str, Vectors] = {}
    if own is not None:
        parts["product"] = own
    pixels = None if query.image is None else _pixels(query.image, images)  # before the model: a bad file fails fast
    text = (query.text or "").strip()
    if text or pixels is not None:
        model = load()
        if model.content_version != table.model_id:
            raise ModelFolderError(
                f"the embeddings are of model {table.model_id}, not of {model.content_version}; run 'recsys embed'"
            )
        if text:
            parts["text"] = model.encode_text([text])[0]
        if pixels is not None:
            parts["image"] = model.encode_pictures(pixels[None])[0]
    mixed = sum(
        (query.weights.get(name, 1.0) * part.astype(np.float64) for name, part in parts.items()), np.zeros(table.dim)
    )
    length = float(np.linalg.norm(mixed))
    if length < 1e-6:
        raise UsageError("the parts of the query cancel each other out; change their weights")
    return (mixed / length).astype(np.float32)


def _pixels(path: Path, settings: ImageSettings) -> npt.NDArray[np.uint8]:
    from recsys.data.decode import PictureError, decode

    if not path.is_file():
        raise UsageError(f"there is no picture {path}")
    if path.stat().st_size > settings.max_megabytes * 1e6:
        raise UsageError(f"picture {path} is larger than {settings.max_megabytes} MB; see [images] max_megabytes")
    try:
        return decode(path.read_bytes(), settings)
    except PictureError as error:
        raise UsageError(f"picture {path} cannot be used ({error.code}); give a JPEG, PNG, GIF or WebP") from error
