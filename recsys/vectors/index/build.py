"""The vector index: which kind, and how much effort for how much found.

In: vectors (n, d) and a kind. Out: a `VectorIndex`; every kind keeps the same promises, and only what is found differs.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from recsys.errors import UsageError, suggestion
from recsys.types import BoolArray, Device, FloatArray, IntArray
from recsys.vectors.index import faiss_factory as engines
from recsys.vectors.index import faiss_gpu as gpu
from recsys.vectors.index import faiss_index as approximate
from recsys.vectors.index import recall as yardstick
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import FlatIndex
from recsys.vectors.index.recall import RecallBenchmark

logger = logging.getLogger(__name__)

KINDS: Final = ("flat", *engines.KINDS)

EXACT_UP_TO: Final = 50_000
"""Products up to which `auto` searches exactly; a query there costs a few milliseconds."""

VECTORS_UP_TO: Final = 2_000_000
"""Products up to which `auto` keeps whole vectors in its lists; above, codes of a sixteenth of their size."""

TARGET_RECALL: Final = 0.97
"""What the effort of an approximate index is raised for."""


class VectorIndex(Protocol):
    """Finds the rows whose vectors have the highest inner product with a query."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    def __len__(self) -> int:
        """n."""
        ...

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """Look for the k best rows of each query.

        Args:
            queries: (q, d) float32.
            k: rows wanted per query.
            allow: (n,) bool, the rows that count; all of them when None.

        Returns:
            Scores (q, k) float32 descending and rows (q, k) int64, ties by lower row. min(k, rows that count) places
            are always filled; the others are (-inf, -1).

        Raises:
            UsageError: the shape is not that of the index, or a query is not finite.
            ConfigError: it is to search on a GPU, and there is none.
        """
        ...


def build_index(vectors: FloatArray, kind: str = "auto", *, seed: int = 0, device: Device = "cpu") -> VectorIndex:
    """Index vectors; an approximate kind raises its effort until a sample finds TARGET_RECALL of the true neighbours.

    Args:
        vectors: (n, d) float32, finite.
        kind: one of KINDS, or auto (flat up to EXACT_UP_TO products, ivf up to VECTORS_UP_TO, pq above).
        seed: of the sample, and of k-means.
        device: where FAISS trains and searches.

    Raises:
        UsageError: the kind is unknown, or a vector is not finite.
        ConfigError: it is to be done on a GPU, and there is none.
    """
    check_finite(vectors, np.arange(len(vectors)))
    chosen = resolve_kind(kind, len(vectors))
    if chosen == "flat":
        return FlatIndex(vectors, device)
    return tune_faiss_index(vectors, chosen, RecallBenchmark.of(vectors, seed=seed), seed=seed, device=device)


def recall_at_k(index: VectorIndex, vectors: FloatArray, queries: FloatArray, *, k: int = 10) -> float:
    """Share of the true k best that the index finds; one as good as the true k-th counts (ties are no misses).

    Args:
        index: over `vectors`.
        vectors: (n, d).
        queries: (q, d).
        k: neighbours compared.
    """
    return yardstick.recall_at_k(index.search(queries, k)[0], FlatIndex(vectors).search(queries, k)[0])


def tune_faiss_index(
    vectors: FloatArray, kind: str, stick: RecallBenchmark, *, seed: int, device: Device = "cpu"
) -> FaissIndex:
    """An index of an approximate kind over vectors (n, d), n > 0, with the least effort that finds TARGET_RECALL."""
    made = FaissIndex(
        vectors, kind, engines.create_faiss_index(vectors, kind, seed=seed, on_gpu=gpu.gpu_available(device)), 0
    )
    efforts, widths = approximate.EFFORTS[kind], approximate.WIDTHS[kind]
    for width in widths:  # the fewest that hold enough, when the search itself leaves nothing out
        made = replace(made, effort=efforts[-1], width=width)
        if len(widths) == 1 or min(stick.recall(made).values()) >= (1 + TARGET_RECALL) / 2:
            break
    for effort in efforts:
        made = replace(made, effort=effort)
        found = min(stick.recall(made).values())
        if found >= TARGET_RECALL:
            break
    else:
        logger.warning("the %s index finds only %.1f %% of the true neighbours; kind flat finds all", kind, 100 * found)
    return replace(made, device=device)


def check_finite(vectors: FloatArray, rows: IntArray) -> None:
    """Look at some rows of vectors (n, d).

    Raises:
        UsageError: a number of theirs is none.
    """
    bad = [row for start in range(0, len(rows), 65_536) for row in _broken(vectors, rows[start : start + 65_536])]
    if bad:
        raise UsageError(f"vector of row {bad[0]} is not a number ({len(bad)} such); build the embeddings again")


def _broken(vectors: FloatArray, rows: IntArray) -> list[int]:
    return [int(row) for row in rows[~np.isfinite(vectors[rows]).all(axis=1)]]


def resolve_kind(kind: str, n: int) -> str:
    """The kind that `auto` is for n products, and any kind but for an empty catalogue: nothing can be learnt from it.

    Raises:
        UsageError: there is no such kind.
    """
    if kind == "auto":
        kind = "flat" if n <= EXACT_UP_TO else "ivf" if n <= VECTORS_UP_TO else "pq"
    if kind not in KINDS:
        raise UsageError(f"unknown index kind '{kind}'{suggestion(kind, KINDS)}; there are auto, {', '.join(KINDS)}")
    return kind if n else "flat"
