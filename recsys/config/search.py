"""The section about looking for products: `similar` and the table of similar products.

In: values. Out: a frozen, checked section.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recsys.config.section import Section


class SearchSettings(Section):
    """Looking for products."""

    mode: Literal["vector", "lexical", "hybrid"] = Field(
        "vector",
        description="how `similar` takes a text: vector = by its meaning, lexical = by its words (BM25), hybrid = by "
        "both",
    )
    variants: bool = Field(
        False, description="show every variant of a product; false = the best one of each group_id, also at night"
    )
    depth: int = Field(100, ge=10, description="places of each list that hybrid search fuses, at least k")
    fusion: float = Field(
        60, gt=0, description="constant of reciprocal rank fusion; larger = the first places count less"
    )


class EmbeddingSettings(Section):
    """The products' vectors on disk."""

    storage: Literal["float32", "int8"] = Field(
        "float32",
        description="how the table keeps its numbers; int8 = a quarter of the size, neighbours nearly the same; the "
        "database has float32 either way",
    )


class IndexSettings(Section):
    """The vector index behind `similar`."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "pq"] = Field(
        "auto", description="auto = exact up to 50,000 products, ivf up to 2,000,000, pq above"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where FAISS searches; auto = flat and ivf on a GPU where FAISS sees one"
    )
    max_changed: float = Field(
        0.2,
        ge=0,
        description="share of the products added, removed or changed since the index was trained above which it is "
        "built anew",
    )
    max_removed: float = Field(
        0.1, ge=0, le=1, description="share of places (hnsw, pq) without a product above which it is built anew"
    )
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="recall lost since the index was trained above which it is built anew"
    )


class ClusterSettings(Section):
    """Groups of products."""

    method: Literal["kmeans", "hdbscan", "agglomerative"] = Field(
        "kmeans",
        description="how products are grouped: kmeans = so many middles, agglomerative = a tree cut at so many, "
        "hdbscan = where products lie densely, the others in no group",
    )
    number: int = Field(
        0, ge=0, description="number of groups; 0 = chosen by silhouette; hdbscan finds the number itself"
    )
    smallest: int = Field(
        0,
        ge=0,
        description="hdbscan: fewest products of a group; 0 = a quarter of the root of the products, 5 at least",
    )
    terms: int = Field(4, ge=1, description="words in a group's label")
    exemplars: int = Field(6, ge=0, description="products named as examples of a group")
    map: Literal["pca", "tsne", "umap", "none"] = Field(
        "tsne",
        description="map of the products: tsne, pca (quicker, less clear), umap (needs recsys[umap]), or none",
    )

    @model_validator(mode="after")
    def _hdbscan_counts_itself(self) -> ClusterSettings:
        if self.method == "hdbscan" and self.number:
            raise ValueError(
                f"hdbscan finds the number of groups itself, so number ({self.number}) cannot be given; leave it 0, or "
                "take kmeans or agglomerative"
            )
        if self.smallest == 1:
            raise ValueError("smallest (1) must be 0 or at least 2")
        return self
