"""Settings of embeddings, index, search and clusters: [embeddings], [index], [search], [cluster].

In: values. Out: frozen, validated sections.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recsys.config.section import Section


class SearchSettings(Section):
    """Search for similar products."""

    mode: Literal["vector", "lexical", "hybrid"] = Field(
        "vector",
        description="how `similar` searches by text: vector = by meaning, lexical = by words (BM25), hybrid = both",
    )
    variants: bool = Field(
        False,
        description="return all variants of a product; false = the best one per group_id, also in the nightly run",
    )
    depth: int = Field(100, ge=10, description="results of each search that hybrid search fuses, at least k")
    fusion: float = Field(
        60, gt=0, description="constant of reciprocal rank fusion; larger = the first ranks count less"
    )


class EmbeddingSettings(Section):
    """Storage of the product embeddings."""

    storage: Literal["float32", "int8"] = Field(
        "float32",
        description="number format of the embedding table; int8 = a quarter of the size, neighbours nearly the same; "
        "the database always stores float32",
    )


class IndexSettings(Section):
    """The vector index used by `similar`."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "pq"] = Field(
        "auto", description="index type; auto = flat (exact) up to 50,000 products, ivf up to 2,000,000, pq above"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of FAISS; auto = flat and ivf use a GPU if FAISS finds one"
    )
    max_changed: float = Field(
        0.2,
        ge=0,
        description="rebuild the index when more than this share of the products was added, removed or changed since "
        "it was trained",
    )
    max_removed: float = Field(
        0.1,
        ge=0,
        le=1,
        description="rebuild an hnsw or pq index when more than this share of its entries is removed products",
    )
    max_recall_loss: float = Field(
        0.02, ge=0, le=1, description="rebuild the index when its recall dropped by more than this since it was trained"
    )


class ClusterSettings(Section):
    """Clusters of products."""

    method: Literal["kmeans", "hdbscan", "agglomerative"] = Field(
        "kmeans",
        description="clustering method: kmeans and agglomerative = a given number of clusters, hdbscan = dense "
        "regions, products outside them are in no cluster",
    )
    number: int = Field(
        0, ge=0, description="number of clusters; 0 = chosen by silhouette; hdbscan determines it itself"
    )
    smallest: int = Field(
        0,
        ge=0,
        description="hdbscan: minimum cluster size; 0 = a quarter of the square root of the number of products, at "
        "least 5",
    )
    terms: int = Field(4, ge=1, description="words in a cluster's label")
    exemplars: int = Field(6, ge=0, description="example products per cluster")
    map: Literal["pca", "tsne", "umap", "none"] = Field(
        "tsne",
        description="2-D map of the products: tsne, pca (faster, less clear), umap (needs recsys[umap]), or none",
    )

    @model_validator(mode="after")
    def _check_hdbscan(self) -> ClusterSettings:
        if self.method == "hdbscan" and self.number:
            raise ValueError(
                f"hdbscan determines the number of clusters itself, so number ({self.number}) cannot be set; set it to "
                "0, or use kmeans or agglomerative"
            )
        if self.smallest == 1:
            raise ValueError("smallest (1) must be 0 or at least 2")
        return self
