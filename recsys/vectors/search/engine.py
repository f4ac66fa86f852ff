"""Search engine over one catalogue: combines filters, vector search, BM25 and variant groups.

In: queries, the catalogue, its vectors and their index. Out: for each query a frame or an error. The model is loaded
only for queries with a text or an image, so that a search by product starts without it.
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
"""Filter masks cached."""

Mode = Literal["vector", "lexical", "hybrid"]
"""How products are scored."""


class QueryEncoder(Protocol):
    """Interface of a model that encodes texts and images."""

    @property
    def content_version(self) -> str:
        """Version of the weights that compute the vectors."""
        ...

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """Return vectors of texts: (q, d) float32, unit length."""
        ...

    def encode_images(self, pixels: Pixels) -> FloatArray:
        """Return vectors of images (q, 3, S, S) uint8: (q, d) float32, unit length."""
        ...


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Attributes:
        mode: by vectors, by words, or by both.
        variants: return every variant of a product instead of the best one.
        sellable_only: leave out products that may not be sold now.
        depth: length of each ranking that `hybrid` fuses, at least k.
        fusion: constant of reciprocal rank fusion.
    """

    mode: Mode = "vector"
    variants: bool = False
    sellable_only: bool = True
    depth: int = 100
    fusion: float = 60


@dataclass(frozen=True)
class _ResolvedQuery:
    """A query with its filter mask, the table rows of its products, and its decoded images."""

    query: Query
    allow: BoolArray
    rows: IntArray
    pixels: dict[str, Pixels]


class SearchEngine:
    """Answers queries over one catalogue.

    Args:
        catalogue: n products: titles, variants, columns for filters; one newer than the table has no vector yet.
        table: vectors of products.
        index: over the table's vectors.
        model_loader: loads the model that computed the table; called for texts and images only.
        lexical_loader: loads the BM25 index; called when `way.mode` needs it.
        images: limits for image files.
        options: search options.
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
        options: SearchOptions,
    ) -> None:
        self.catalogue, self.table, self.index, self.images, self.options = catalogue, table, index, images, options
        self._load_model, self._load_lexical = model_loader, lexical_loader
        same = catalogue.ids.texts == table.ids.texts
        self._catalogue_rows = np.arange(len(table), dtype=np.int64) if same else catalogue.ids.rows(table.ids.texts)
        self._variant_groups = None if options.variants else variants.variant_groups(catalogue)
        self._cached_mask = lru_cache(_MASKS)(self._filter_mask)

    def search(
        self, queries: Sequence[Query], k: int, *, where: Sequence[str | None] | None = None
    ) -> list[pl.DataFrame | UsageError]:
        """Return the k nearest products to each query; products a query names are not among its results.

        Args:
            queries: the queries.
            k: results per query.
            where: for each query, a filter its results must pass (`filters`).

        Returns:
            For each query a frame (product_id, score, title), with fewer than k rows only where fewer products are
            allowed; or the error of the query. The score is a cosine, for words BM25, for both a sum of reciprocal
            ranks.

        Raises:
            ModelFolderError: the table was computed by another model than the one loaded.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        results: list[pl.DataFrame | UsageError | None] = [None] * len(queries)
        resolved: dict[int, _ResolvedQuery] = {}
        for i, query in enumerate(queries):
            try:
                resolved[i] = self._resolve(query, where[i] if where is not None else None)
            except UsageError as error:
                results[i] = error
        vectors, errors = self._query_vectors(resolved) if self.options.mode != "lexical" else ({}, {})
        for i, problem in errors.items():
            results[i] = problem
            resolved.pop(i)
        by_vector = self._search_vectors(resolved, vectors, k)
        for i, resolved_query in resolved.items():
            results[i] = self._result_frame(*self._rank(resolved_query, by_vector.get(i), k))
        return [result for result in results if result is not None]

    def _resolve(self, query: Query, where: str | None) -> _ResolvedQuery:
        """Resolve the products, the filter and the images of a query."""
        if self.options.mode == "lexical" and any(
            part.kind != "text" for part in (*query.plus_parts, *query.minus_parts)
        ):
            raise UsageError("lexical search takes texts only; use mode vector or hybrid for products and images")
        products = [*query.values("product"), *query.values("product", minus=True)]
        rows = np.array([self._table_row(product) for product in products], np.int64)
        paths = dict.fromkeys([*query.values("image"), *query.values("image", minus=True)])
        return _ResolvedQuery(query, self._cached_mask(where), rows, {path: self.load_image(path) for path in paths})

    def load_image(self, path: str) -> Pixels:
        """Return the decoded image of a query: (3, S, S)."""
        return load_image(path, self.images)

    def _filter_mask(self, where: str | None) -> BoolArray:
        """Return the products that may be a result: (n,) bool in catalogue rows."""
        all_products = np.ones(len(self.catalogue), np.bool_)
        allowed = self.catalogue.sellable if self.options.sellable_only else all_products
        return allowed if where is None else allowed & filters.parse_filter(where, self.catalogue.frame)

    def _table_row(self, product: str) -> int:
        """Return the table row of a product."""
        row = int(self.table.ids.rows([product])[0])
        if row >= 0:
            return row
        if product in self.catalogue.ids:
            raise NotFoundError(f"product '{product}' has no vector yet; run 'recsys embed'")
        raise self.catalogue.ids.unknown("product", product)

    def _excluded_groups(self, resolved_query: _ResolvedQuery) -> IntArray:
        """Return the variant groups of the products a query names, which are excluded from its results.

        A product that has left the catalogue has no group to exclude.
        """
        rows = self._catalogue_rows[resolved_query.rows]
        rows = rows[rows >= 0]
        return rows if self._variant_groups is None else self._variant_groups[rows]

    @cached_property
    def _model(self) -> QueryEncoder:
        """Model of the table, loaded on first use."""
        model = self._load_model()
        if model.content_version != self.table.model_id:
            raise ModelFolderError(
                f"the embeddings are of model {self.table.model_id}, not of {model.content_version}; run 'recsys embed'"
            )
        return model

    @cached_property
    def _lexical(self) -> Bm25Index:
        """BM25 index, loaded on first use."""
        return self._load_lexical()

    def _query_vectors(
        self, resolved: dict[int, _ResolvedQuery]
    ) -> tuple[dict[int, FloatArray], dict[int, UsageError]]:
        """Return the vector or the error of each query; all texts and images are encoded together."""
        parts = [
            part
            for resolved_query in resolved.values()
            for part in (*resolved_query.query.plus_parts, *resolved_query.query.minus_parts)
        ]
        texts = list(dict.fromkeys(part.value for part in parts if part.kind == "text"))
        images = {
            path: pixels for resolved_query in resolved.values() for path, pixels in resolved_query.pixels.items()
        }
        encoded: dict[tuple[str, str], FloatArray] = {}
        if texts:
            encoded |= {("text", text): v for text, v in zip(texts, self._model.encode_text(texts), strict=True)}
        if images:
            image_vectors = self._model.encode_images(np.stack(list(images.values())))
            encoded |= {("image", path): v for path, v in zip(images, image_vectors, strict=True)}

        def weighted_vector(part: QueryPart) -> tuple[float, FloatArray]:
            """Return weight and vector of a query part."""
            if part.kind == "product":
                return part.weight, self.table.vectors[self._table_row(part.value)]
            return part.weight, encoded[part.kind, part.value]

        vectors: dict[int, FloatArray] = {}
        errors: dict[int, UsageError] = {}
        for i, resolved_query in resolved.items():
            try:
                vectors[i] = combine_query_vectors(
                    [weighted_vector(p) for p in resolved_query.query.plus_parts],
                    [weighted_vector(p) for p in resolved_query.query.minus_parts],
                )
            except UsageError as error:
                errors[i] = error
        return vectors, errors

    def _search_vectors(
        self, resolved: dict[int, _ResolvedQuery], vectors: dict[int, FloatArray], k: int
    ) -> dict[int, tuple[FloatArray, IntArray]]:
        """Return scores and catalogue rows by vector, one per group; queries with the same filter go together."""
        batches: dict[int, list[int]] = {}
        for i in vectors:
            batches.setdefault(id(resolved[i].allow), []).append(i)
        in_catalogue = self._catalogue_rows >= 0
        groups = (
            None
            if self._variant_groups is None
            else np.where(in_catalogue, self._variant_groups[self._catalogue_rows], -1)
        )
        results = {}
        for members in batches.values():
            allow = np.zeros(len(self.table), np.bool_)
            allow[in_catalogue] = resolved[members[0]].allow[self._catalogue_rows[in_catalogue]]
            excluded = [self._excluded_groups(resolved[i]) if groups is not None else resolved[i].rows for i in members]
            depth = max(k, self.options.depth) if self.options.mode == "hybrid" else k
            queries = np.stack([vectors[i] for i in members])
            result = variants.search_distinct(self.index, queries, depth, allow=allow, groups=groups, excluded=excluded)
            for i, scores, rows in zip(members, *result, strict=True):
                exists = rows >= 0
                results[i] = scores[exists], self._catalogue_rows[rows[exists]]
        return results

    def _rank(
        self, resolved_query: _ResolvedQuery, by_vector: tuple[FloatArray, IntArray] | None, k: int
    ) -> tuple[FloatArray, IntArray]:
        """Rank the results of a query by vector, by words, or by the fusion of both."""
        texts, unwanted = resolved_query.query.values("text"), resolved_query.query.values("text", minus=True)
        if by_vector is not None and (self.options.mode == "vector" or not texts):
            return by_vector[0][:k], by_vector[1][:k]
        depth = k if by_vector is None else max(k, self.options.depth)
        by_words = self._lexical.top_k(
            " ".join(texts),
            depth,
            minus=" ".join(unwanted),
            allow=resolved_query.allow,
            groups=self._variant_groups,
            excluded=self._excluded_groups(resolved_query),
        )
        return (
            by_words
            if by_vector is None
            else reciprocal_rank_fusion(
                [by_vector[1], by_words[1]], k, constant=self.options.fusion, groups=self._variant_groups
            )
        )

    def _result_frame(self, scores: FloatArray, rows: IntArray) -> pl.DataFrame:
        """Return results as a frame (product_id, score, title)."""
        ids, titles = self.catalogue.ids.ids(rows), self.catalogue.titles(rows)
        return pl.DataFrame({schema.PRODUCT_ID: ids, SCORE: scores, schema.TITLE: titles}, schema=SCHEMA)
