"""What answers queries over one catalogue: conditions, vectors, words and variants brought together.

In: queries, the catalogue, its vectors and their index. Out: for each query a frame, or what is wrong with it. The
model is only asked for when there is a text or a picture to encode, so that a search by product starts without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal, Protocol

import numpy as np
import polars as pl

from recsys.config import ImageSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.errors import ModelFolderError, NotFoundError, UsageError
from recsys.types import BoolArray, FloatArray, IntArray
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index.build import VectorIndex
from recsys.vectors.search import filters, variants
from recsys.vectors.search.bm25 import Bm25Index
from recsys.vectors.search.query import Pixels, Query, QueryPart, load_image
from recsys.vectors.search.query_vector import combine_query_vectors
from recsys.vectors.search.rank_fusion import reciprocal_rank_fusion

SCORE: Final = "score"
SCHEMA: Final = {schema.PRODUCT_ID: pl.String, SCORE: pl.Float32, schema.TITLE: pl.String}
_MASKS: Final = 32
"""Conditions whose products are remembered."""

Mode = Literal["vector", "lexical", "hybrid"]


class QueryEncoder(Protocol):
    """What is asked of a model to search by text or picture."""

    @property
    def content_version(self) -> str:
        """Names the weights that vectors come from."""
        ...

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """Vectors of texts: (q, d) float32, unit length."""
        ...

    def encode_images(self, pixels: Pixels) -> FloatArray:
        """Vectors of pictures (q, 3, S, S) uint8: (q, d) float32, unit length."""
        ...


@dataclass(frozen=True)
class SearchOptions:
    """How to look.

    Attributes:
        mode: by vectors, by words, or by both.
        variants: show every variant of a product instead of the best one.
        sellable_only: leave out products that may not be sold now.
        depth: places of each list that `hybrid` fuses, at least k.
        fusion: constant of reciprocal rank fusion.
    """

    mode: Mode = "vector"
    variants: bool = False
    sellable_only: bool = True
    depth: int = 100
    fusion: float = 60


@dataclass(frozen=True)
class _ResolvedQuery:
    """A query whose products, condition and pictures have been found."""

    query: Query
    allow: BoolArray
    own: IntArray
    pixels: dict[str, Pixels]


class SearchEngine:
    """Answers queries over one catalogue.

    Args:
        catalogue: n products: titles, variants, columns for conditions; one newer than the table has no vector yet.
        table: vectors of products.
        index: over the table's vectors.
        model_loader: gives the model that made the table; called for a text or a picture only.
        lexical_loader: gives the index of words; called when `way.mode` needs it.
        images: limits for picture files.
        way: how to look.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        table: EmbeddingTable,
        *,
        index: VectorIndex,
        model_loader: Callable[[], QueryEncoder],
        lexical_loader: Callable[[], Bm25Index],
        images: ImageSettings,
        way: SearchOptions,
    ) -> None:
        self.catalogue, self.table, self.index, self.images, self.way = catalogue, table, index, images, way
        self._load, self._load_lexical = model_loader, lexical_loader
        same = catalogue.ids.texts == table.ids.texts
        self._at = np.arange(len(table), dtype=np.int64) if same else catalogue.ids.rows(table.ids.texts)
        self._variant_groups = None if way.variants else variants.variant_groups(catalogue)
        self._allowed = lru_cache(_MASKS)(self._filter_mask)

    def search(
        self, queries: Sequence[Query], k: int, *, where: Sequence[str | None] | None = None
    ) -> list[pl.DataFrame | UsageError]:
        """The k products nearest to each query; what a query names is not among its answers.

        Args:
            queries: what to look for.
            k: how many.
            where: for each query, only products that meet this condition (`filters`).

        Returns:
            For each query a frame (product_id, score, title), fewer than k rows only where fewer products count; or
            what is wrong with it. The score is a cosine, by words BM25, by both a sum of reciprocal ranks.

        Raises:
            ModelFolderError: the table was made by another model than the one loaded.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        out: list[pl.DataFrame | UsageError | None] = [None] * len(queries)
        asked: dict[int, _ResolvedQuery] = {}
        for at, query in enumerate(queries):
            try:
                asked[at] = self._asked(query, where[at] if where is not None else None)
            except UsageError as error:
                out[at] = error
        vectors, wrong = self._vectors(asked) if self.way.mode != "lexical" else ({}, {})
        for at, trouble in wrong.items():
            out[at] = trouble
            asked.pop(at)
        near = self._nearest(asked, vectors, k)
        for at, one in asked.items():
            out[at] = self._frame(*self._ranked(one, near.get(at), k))
        return [one for one in out if one is not None]

    def _asked(self, query: Query, where: str | None) -> _ResolvedQuery:
        if self.way.mode == "lexical" and any(part.kind != "text" for part in (*query.plus_parts, *query.minus_parts)):
            raise UsageError("a search by words alone takes texts; look by vector or hybrid for products and pictures")
        named = [*query.values("product"), *query.values("product", minus=True)]
        own = np.array([self._row(product) for product in named], np.int64)
        paths = dict.fromkeys([*query.values("image"), *query.values("image", minus=True)])
        return _ResolvedQuery(query, self._allowed(where), own, {path: self.picture(path) for path in paths})

    def picture(self, path: str) -> Pixels:
        """The picture a query names: (3, S, S)."""
        return load_image(path, self.images)

    def _filter_mask(self, where: str | None) -> BoolArray:
        """Products that may be an answer: (n,) bool in catalogue rows."""
        everything = np.ones(len(self.catalogue), np.bool_)
        allowed = self.catalogue.sellable if self.way.sellable_only else everything
        return allowed if where is None else allowed & filters.parse(where, self.catalogue.frame)

    def _row(self, product: str) -> int:
        """The table's row of a product."""
        row = int(self.table.ids.rows([product])[0])
        if row >= 0:
            return row
        if product in self.catalogue.ids:
            raise NotFoundError(f"product '{product}' has no vector yet; run 'recsys embed'")
        raise self.catalogue.ids.unknown("product", product)

    def _barred(self, one: _ResolvedQuery) -> IntArray:
        """Families of the products that a query names; of one that has left the catalogue nothing is there to bar."""
        own = self._at[one.own]
        own = own[own >= 0]
        return own if self._variant_groups is None else self._variant_groups[own]

    @cached_property
    def _model(self) -> QueryEncoder:
        model = self._load()
        if model.content_version != self.table.model_id:
            raise ModelFolderError(
                f"the embeddings are of model {self.table.model_id}, not of {model.content_version}; run 'recsys embed'"
            )
        return model

    @cached_property
    def _lexical(self) -> Bm25Index:
        return self._load_lexical()

    def _vectors(self, asked: dict[int, _ResolvedQuery]) -> tuple[dict[int, FloatArray], dict[int, UsageError]]:
        """The vector of each query; texts and pictures of all of them go through the model together."""
        parts = [part for one in asked.values() for part in (*one.query.plus_parts, *one.query.minus_parts)]
        texts = list(dict.fromkeys(part.value for part in parts if part.kind == "text"))
        pictures = {path: held for one in asked.values() for path, held in one.pixels.items()}
        known: dict[tuple[str, str], FloatArray] = {}
        if texts:
            known |= {("text", text): v for text, v in zip(texts, self._model.encode_text(texts), strict=True)}
        if pictures:
            encoded = self._model.encode_images(np.stack(list(pictures.values())))
            known |= {("image", path): v for path, v in zip(pictures, encoded, strict=True)}

        def of(part: QueryPart) -> tuple[float, FloatArray]:
            if part.kind == "product":
                return part.weight, self.table.vectors[self._row(part.value)]
            return part.weight, known[part.kind, part.value]

        out: dict[int, FloatArray] = {}
        wrong: dict[int, UsageError] = {}
        for at, one in asked.items():
            try:
                out[at] = combine_query_vectors(
                    [of(p) for p in one.query.plus_parts], [of(p) for p in one.query.minus_parts]
                )
            except UsageError as error:
                wrong[at] = error
        return out, wrong

    def _nearest(
        self, asked: dict[int, _ResolvedQuery], vectors: dict[int, FloatArray], k: int
    ) -> dict[int, tuple[FloatArray, IntArray]]:
        """Scores and catalogue rows by vector, one a family; queries with the same condition go together."""
        together: dict[int, list[int]] = {}
        for at in vectors:
            together.setdefault(id(asked[at].allow), []).append(at)
        held = self._at >= 0
        kin = None if self._variant_groups is None else np.where(held, self._variant_groups[self._at], -1)
        out = {}
        for members in together.values():
            allow = np.zeros(len(self.table), np.bool_)
            allow[held] = asked[members[0]].allow[self._at[held]]
            barred = [self._barred(asked[at]) if kin is not None else asked[at].own for at in members]
            wanted = max(k, self.way.depth) if self.way.mode == "hybrid" else k
            queries = np.stack([vectors[at] for at in members])
            found = variants.search_distinct(self.index, queries, wanted, allow=allow, kin=kin, barred=barred)
            for at, scores, rows in zip(members, *found, strict=True):
                real = rows >= 0
                out[at] = scores[real], self._at[rows[real]]
        return out

    def _ranked(
        self, one: _ResolvedQuery, near: tuple[FloatArray, IntArray] | None, k: int
    ) -> tuple[FloatArray, IntArray]:
        texts, unwanted = one.query.values("text"), one.query.values("text", minus=True)
        if near is not None and (self.way.mode == "vector" or not texts):
            return near[0][:k], near[1][:k]
        deep = k if near is None else max(k, self.way.depth)
        found = self._lexical.top_k(
            " ".join(texts),
            deep,
            minus=" ".join(unwanted),
            allow=one.allow,
            kin=self._variant_groups,
            barred=self._barred(one),
        )
        return (
            found
            if near is None
            else reciprocal_rank_fusion([near[1], found[1]], k, constant=self.way.fusion, kin=self._variant_groups)
        )

    def _frame(self, scores: FloatArray, rows: IntArray) -> pl.DataFrame:
        ids, titles = self.catalogue.ids.ids(rows), self.catalogue.titles(rows)
        return pl.DataFrame({schema.PRODUCT_ID: ids, SCORE: scores, schema.TITLE: titles}, schema=SCHEMA)
