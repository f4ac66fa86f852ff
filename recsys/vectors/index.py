"""The vector index: which kind, how much it finds, and its file, which is only a cache.

In: vectors (n, d) and a kind. Out: a `VectorIndex`; every kind keeps the same promises, and only what is found differs.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from recsys.errors import ModelFolderError, UsageError, suggestion
from recsys.vectors import approximate, sealed
from recsys.vectors.approximate import FaissIndex
from recsys.vectors.exact import Flags, FlatIndex, Rows, Vectors

logger = logging.getLogger(__name__)

KINDS: Final = ("flat", "ivf", "hnsw")

EXACT_UP_TO: Final = 50_000
"""Products up to which `auto` searches exactly; a query there costs a few milliseconds."""

TARGET_RECALL: Final = 0.97
"""What the effort of an approximate index is raised for."""

_SAMPLE: Final = 256
_NAME: Final = "index"


class VectorIndex(Protocol):
    """Finds the rows whose vectors have the highest inner product with a query."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    def __len__(self) -> int:
        """n."""
        ...

    def search(self, queries: Vectors, k: int, *, allow: Flags | None = None) -> tuple[Vectors, Rows]:
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
        """
        ...


@dataclass(frozen=True)
class Opened:
    """An index ready to use.

    Attributes:
        index: the index.
        recall: share of the true ten nearest neighbours it finds, measured when it was built, for products and for
            points between products, whichever is less.
        built: why it was built now; None = it was loaded.
    """

    index: VectorIndex
    recall: float
    built: str | None


def build(vectors: Vectors, kind: str = "auto", *, seed: int = 0) -> VectorIndex:
    """Index vectors; an approximate kind raises its effort until a sample finds TARGET_RECALL of the true neighbours.

    Args:
        vectors: (n, d) float32, finite.
        kind: flat, ivf, hnsw, or auto (flat up to EXACT_UP_TO products, ivf above).
        seed: of the sample, and of the inverted file's k-means.

    Raises:
        UsageError: the kind is unknown, or a vector is not finite.
    """
    return _measured(vectors, _kind(kind, len(vectors)), seed)[0]


def recall(index: VectorIndex, vectors: Vectors, queries: Vectors, *, k: int = 10) -> float:
    """Share of the true k best that the index finds; one as good as the true k-th counts (ties are no misses).

    Args:
        index: over `vectors`.
        vectors: (n, d).
        queries: (q, d).
        k: neighbours compared.
    """
    truth, _ = FlatIndex(vectors).search(queries, k)
    scores, rows = index.search(queries, k)
    real = np.isfinite(truth)
    if not real.any():
        return 1.0
    bar = np.where(real, truth, np.inf).min(axis=1, keepdims=True)
    return float(((rows >= 0) & (scores >= bar)).sum() / real.sum())


def open_index(vectors: Vectors, kind: str = "auto", *, folder: Path, seed: int = 0, fresh: bool = False) -> Opened:
    """Load the saved index of exactly these vectors, or build it, say why, and save it.

    Args:
        vectors: (n, d) float32.
        kind: as in `build`.
        folder: where the cache lies.
        seed: as in `build`.
        fresh: build it in any case.
    """
    chosen = _kind(kind, len(vectors))
    if chosen == "flat" and not fresh:
        return Opened(FlatIndex(vectors), 1.0, None)  # the vectors are the index
    key = _key(vectors, chosen, seed)
    why = "asked for"
    if not fresh:
        try:
            return sealed.unseal(folder, _NAME, lambda facts, paths: _read(vectors, key, facts, paths))
        except FileNotFoundError:
            why = "none was saved"
        except ModelFolderError as error:
            why = str(error)
        logger.warning("building the %s index of %d vectors: %s", chosen, len(vectors), why)
    index, found = _measured(vectors, chosen, seed)
    parts = {"engine.faiss": index.save} if isinstance(index, FaissIndex) else {}
    effort = index.effort if isinstance(index, FaissIndex) else 0
    sealed.seal(folder, _NAME, parts=parts, facts={**key, "effort": effort, "recall": found})
    return Opened(index, found, why)


def _measured(vectors: Vectors, kind: str, seed: int) -> tuple[VectorIndex, float]:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UsageError(f"vector of row {int(bad[0])} is not a number ({len(bad)} such); build the embeddings again")
    if kind == "flat" or not len(vectors):
        return FlatIndex(vectors), 1.0
    engine = approximate.engine(vectors, kind, seed=seed)
    products, between = _sample(vectors, seed)
    for effort in approximate.EFFORTS[kind]:
        index = FaissIndex(vectors, kind, engine, effort)
        found = min(recall(index, vectors, products), recall(index, vectors, between))
        if found >= TARGET_RECALL:
            return index, found
    logger.warning("the %s index finds only %.1f %% of the true neighbours; kind flat finds all", kind, 100 * found)
    return index, found


def _sample(vectors: Vectors, seed: int) -> tuple[Vectors, Vectors]:
    """Queries to measure by: products, and points between two products each.

    Texts and mixes lie beside the products, not on them, and are harder to find neighbours for.
    """
    g = np.random.default_rng(seed)
    one, other = (np.sort(g.choice(len(vectors), size=min(_SAMPLE, len(vectors)), replace=False)) for _ in range(2))
    between = vectors[one] + vectors[g.permutation(other)]
    lengths = np.linalg.norm(between, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors[one]), (between / np.maximum(lengths, 1e-6)).astype(np.float32)


def _kind(kind: str, n: int) -> str:
    if kind == "auto":
        return "flat" if n <= EXACT_UP_TO else "ivf"
    if kind not in KINDS:
        raise UsageError(f"unknown index kind '{kind}'{suggestion(kind, KINDS)}; there are auto, {', '.join(KINDS)}")
    return kind


def _key(vectors: Vectors, kind: str, seed: int) -> dict[str, Any]:
    """What an index file depends on; any difference makes it useless."""
    import faiss

    digest = hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()
    return {"kind": kind, "seed": seed, "shape": list(vectors.shape), "vectors": digest, "faiss": faiss.__version__}


def _read(vectors: Vectors, key: dict[str, Any], facts: sealed.Facts, paths: dict[str, Path]) -> Opened:
    other = sorted(name for name, value in key.items() if facts.get(name) != value)
    if other:
        raise ModelFolderError(f"the saved one differs in {', '.join(other)}")
    index = FaissIndex.load(vectors, key["kind"], paths["engine.faiss"], effort=int(facts["effort"]))
    return Opened(index, float(facts["recall"]), None)
