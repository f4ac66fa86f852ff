"""Build a vector index: select its kind and tune its search effort for a target recall.

In: vectors (n, d) and a kind. Out: a `VectorIndex`; all kinds share the contract, and only the recall differs.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from recsys.errors import UsageError, suggestion
from recsys.types import BoolArray, Device, FloatArray, IntArray
from recsys.vectors.index import faiss_factory, faiss_index
from recsys.vectors.index import recall as recall_metrics
from recsys.vectors.index.faiss_gpu import gpu_available
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import FlatIndex
from recsys.vectors.index.recall import RecallBenchmark

logger = logging.getLogger(__name__)

KINDS: Final = ("flat", *faiss_factory.KINDS)

FLAT_MAX_PRODUCTS: Final = 50_000
"""Products up to which `auto` searches exactly; a query there takes a few milliseconds."""

IVF_MAX_PRODUCTS: Final = 2_000_000
"""Products up to which `auto` stores full vectors; above, codes of a sixteenth of their size."""

TARGET_RECALL: Final = 0.97
"""Recall for which the search effort of an approximate index is raised."""


class VectorIndex(Protocol):
    """Finds the rows whose vectors have the highest inner product with a query."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    def __len__(self) -> int:
        """Return the number of vectors n."""
        ...

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """Return the k best rows of each query.

        Args:
            queries: (q, d) float32.
            k: results per query.
            allow: (n,) bool, the allowed rows; all of them when None.

        Returns:
            Scores (q, k) float32 descending and rows (q, k) int64, ties by lower row. min(k, number of allowed rows)
            positions are always filled; the others are (-inf, -1).

        Raises:
            UsageError: the shape does not fit the index, or a query is not finite.
            ConfigError: a GPU is requested, and there is none.
        """
        ...


def build_index(vectors: FloatArray, kind: str = "auto", *, seed: int = 0, device: Device = "cpu") -> VectorIndex:
    """Build an index; the effort of an approximate kind is raised until a sample reaches TARGET_RECALL.

    Args:
        vectors: (n, d) float32, finite.
        kind: one of KINDS, or auto (flat up to EXACT_UP_TO products, ivf up to VECTORS_UP_TO, pq above).
        seed: of the sample, and of k-means.
        device: where FAISS trains and searches.

    Raises:
        UsageError: the kind is unknown, or a vector is not finite.
        ConfigError: a GPU is requested, and there is none.
    """
    check_finite(vectors, np.arange(len(vectors)))
    resolved_kind = resolve_kind(kind, len(vectors))
    if resolved_kind == "flat":
        return FlatIndex(vectors, device)
    return tune_faiss_index(
        vectors, resolved_kind, RecallBenchmark.from_vectors(vectors, seed=seed), seed=seed, device=device
    )


def recall_at_k(index: VectorIndex, vectors: FloatArray, queries: FloatArray, *, k: int = 10) -> float:
    """Return the share of the true k best that the index finds; ties with the true k-th are not misses.

    Args:
        index: over `vectors`.
        vectors: (n, d).
        queries: (q, d).
        k: neighbours compared.
    """
    return recall_metrics.recall_at_k(index.search(queries, k)[0], FlatIndex(vectors).search(queries, k)[0])


def tune_faiss_index(
    vectors: FloatArray, kind: str, benchmark: RecallBenchmark, *, seed: int, device: Device = "cpu"
) -> FaissIndex:
    """Build an approximate index with the lowest effort that reaches TARGET_RECALL.

    Args:
        vectors: (n, d), n > 0.
        kind: one of `faiss_factory.KINDS`.
        benchmark: queries with their true scores.
        seed: of k-means.
        device: where FAISS trains and searches.
    """
    index = FaissIndex(
        vectors, kind, faiss_factory.create_faiss_index(vectors, kind, seed=seed, on_gpu=gpu_available(device)), 0
    )
    efforts, widths = faiss_index.SEARCH_EFFORTS[kind], faiss_index.OVERFETCH_FACTORS[kind]
    for width in widths:  # the lowest that suffices when the search itself probes everything
        index = replace(index, effort=efforts[-1], width=width)
        if len(widths) == 1 or min(benchmark.recall(index).values()) >= (1 + TARGET_RECALL) / 2:
            break
    for effort in efforts:
        index = replace(index, effort=effort)
        recall = min(benchmark.recall(index).values())
        if recall >= TARGET_RECALL:
            break
    else:
        logger.warning(
            "the %s index finds only %.1f %% of the true neighbours; kind flat finds all", kind, 100 * recall
        )
    return replace(index, device=device)


def check_finite(vectors: FloatArray, rows: IntArray) -> None:
    """Check some rows of vectors (n, d).

    Raises:
        UsageError: a number is not finite.
    """
    invalid = [
        row for start in range(0, len(rows), 65_536) for row in _invalid_rows(vectors, rows[start : start + 65_536])
    ]
    if invalid:
        raise UsageError(
            f"vector of row {invalid[0]} is not a number ({len(invalid)} such); build the embeddings again"
        )


def _invalid_rows(vectors: FloatArray, rows: IntArray) -> list[int]:
    """Return the rows with a number that is not finite."""
    return [int(row) for row in rows[~np.isfinite(vectors[rows]).all(axis=1)]]


def resolve_kind(kind: str, n: int) -> str:
    """Resolve `auto` for n products.

    An empty catalogue is always flat, since nothing can be trained on it.

    Raises:
        UsageError: the kind is unknown.
    """
    if kind == "auto":
        kind = "flat" if n <= FLAT_MAX_PRODUCTS else "ivf" if n <= IVF_MAX_PRODUCTS else "pq"
    if kind not in KINDS:
        raise UsageError(f"unknown index kind '{kind}'{suggestion(kind, KINDS)}; there are auto, {', '.join(KINDS)}")
    return kind if n else "flat"
