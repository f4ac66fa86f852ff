"""Nearest vectors by inner product: exact, or by a FAISS inverted file or graph.

In: vectors (n, d). Out: a `VectorIndex`; every kind keeps the same promises, and only how much is found differs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from recsys.errors import UsageError
from recsys.vectors import exact
from recsys.vectors.exact import Allow, Rows, Vectors

logger = logging.getLogger(__name__)

Kind = Literal["flat", "ivf", "hnsw"]
KINDS: Final[tuple[Kind, ...]] = ("flat", "ivf", "hnsw")

EXACT_UP_TO: Final = 50_000
"""Products up to which `auto` searches exactly; a query there costs a few milliseconds."""

TARGET_RECALL: Final = 0.97
"""What the effort of an approximate index is raised for."""

_FEW_QUERIES = 8
"""Up to here a scan per query beats filling a FAISS index first; `similar` then never loads FAISS."""

_SLACK = 16
"""Rows fetched beyond k, to be scored again: FAISS breaks ties, and rounds, in its own way."""

_LINKS = 32
_EFFORTS: Final[dict[str, tuple[int, ...]]] = {"ivf": (4, 8, 16, 32, 64, 128, 256), "hnsw": (32, 64, 128, 256, 512)}


class VectorIndex(Protocol):
    """Finds the rows whose vectors have the highest inner product with a query."""

    kind: Kind

    def __len__(self) -> int:
        """n."""
        ...

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None) -> tuple[Vectors, Rows]:
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
class FlatIndex:
    """Exact search: a scan for few queries, FAISS for many; both give the same answer to the last bit.

    Attributes:
        vectors: (n, d) float32.
    """

    vectors: Vectors = field(repr=False)
    kind: Kind = "flat"

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None) -> tuple[Vectors, Rows]:
        queries = _checked(queries, self.vectors, k, allow)
        among = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        if len(queries) <= _FEW_QUERIES:
            return _scans(self.vectors, queries, k, among)
        import faiss

        pool = self.vectors if among is None else self.vectors[among]
        fetched = min(len(pool), k + _SLACK)
        if not fetched:
            return exact.blank(len(queries), k)
        rough, found = faiss.knn(queries, np.ascontiguousarray(pool), fetched, metric=faiss.METRIC_INNER_PRODUCT)
        rows = found if among is None else among[found]
        # Where the last row fetched is as good as the k-th, rows left behind may tie with it: scan those queries.
        slack = exact.EPSILON * np.maximum(1.0, np.abs(rough).max(axis=1))
        open_end = (rough[:, min(k, fetched) - 1] - rough[:, -1] <= slack) & (fetched < len(pool))
        return _settled(self.vectors, queries, k, rows, unsure=open_end, among=among)


@dataclass(frozen=True)
class FaissIndex:
    """Approximate search by FAISS; what it finds is scored again, and what it misses of k is found by a scan.

    Attributes:
        vectors: (n, d) float32.
        kind: "ivf" or "hnsw".
        engine: the FAISS index over the same rows.
        effort: lists visited (ivf) or length of the candidate queue (hnsw).
    """

    vectors: Vectors = field(repr=False)
    kind: Kind
    engine: Any = field(repr=False)
    effort: int

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None) -> tuple[Vectors, Rows]:
        queries = _checked(queries, self.vectors, k, allow)
        among = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        # A graph walk that may use few of the rows it passes finds little; few rows are quickly scanned.
        if among is not None and len(among) <= max(2000, len(self) // 50):
            return _scans(self.vectors, queries, k, among)
        if not len(queries) or not len(self):
            return exact.blank(len(queries), k)
        fetched = min(len(self), k + _SLACK)
        _, rows = self.engine.search(queries, fetched, params=self._parameters(fetched, allow))
        wanted = min(k, len(self) if among is None else len(among))
        return _settled(self.vectors, queries, k, rows, unsure=(rows >= 0).sum(axis=1) < wanted, among=among)

    def _parameters(self, fetched: int, allow: Allow | None) -> Any:
        import faiss

        chosen = {} if allow is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))}
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=self.effort, **chosen)
        return faiss.SearchParametersHNSW(efSearch=max(self.effort, fetched), **chosen)


def build(vectors: npt.NDArray[np.float32], kind: str = "auto", *, seed: int = 0) -> VectorIndex:
    """Index vectors; approximate kinds raise their effort until a sample finds TARGET_RECALL of the true neighbours.

    The graph is built by one thread: with more, the links depend on who comes first, and so would the answers.

    Args:
        vectors: (n, d) float32, finite.
        kind: flat, ivf, hnsw, or auto (flat up to EXACT_UP_TO products, hnsw above).
        seed: of the sample, and of the inverted file's k-means.

    Raises:
        UsageError: the kind is unknown, or the vectors are not finite.
    """
    chosen = _kind(kind, len(vectors))
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UsageError(f"vector of row {int(bad[0])} is not a number ({len(bad)} such); build the embeddings again")
    if chosen == "flat" or not len(vectors):
        return FlatIndex(vectors)
    engine = _MAKE[chosen](np.ascontiguousarray(vectors), seed)
    sample = np.random.default_rng(seed).choice(len(vectors), size=min(256, len(vectors)), replace=False)
    queries = np.ascontiguousarray(vectors[np.sort(sample)])
    for effort in _EFFORTS[chosen]:
        index = FaissIndex(vectors, chosen, engine, effort)
        found = recall(index, vectors, queries)
        if found >= TARGET_RECALL:
            return index
    logger.warning("the %s index finds only %.1f %% of the true neighbours; --kind flat finds all", chosen, 100 * found)
    return index


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
    return float(((rows >= 0) & (scores >= bar) & real).sum() / real.sum())


def _kind(kind: str, n: int) -> Kind:
    if kind == "auto":
        return "flat" if n <= EXACT_UP_TO else "hnsw"
    for known in KINDS:
        if kind == known:
            return known
    raise UsageError(f"unknown index kind {kind!r}; choose auto, {', '.join(KINDS)}")


def _inverted_file(vectors: Vectors, seed: int) -> Any:
    import faiss

    n, dim = vectors.shape
    lists = max(1, min(n // 39, round(4 * n**0.5)))  # FAISS asks for 39 points a list to train on
    engine = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    engine.cp.seed = seed + 1
    engine.cp.spherical = True
    engine.train(vectors)
    engine.add(vectors)
    return engine


def _graph(vectors: Vectors, seed: int) -> Any:
    import faiss

    del seed  # the levels of the graph come from FAISS' own fixed seed
    threads = faiss.omp_get_max_threads()
    engine = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    engine.hnsw.efConstruction = 100
    faiss.omp_set_num_threads(1)
    try:
        engine.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return engine


_MAKE: Final[dict[str, Callable[[Vectors, int], Any]]] = {"ivf": _inverted_file, "hnsw": _graph}


def _scans(vectors: Vectors, queries: Vectors, k: int, among: Rows | None) -> tuple[Vectors, Rows]:
    return _settled(vectors, queries, k, None, unsure=np.ones(len(queries), np.bool_), among=among)


def _settled(
    vectors: Vectors, queries: Vectors, k: int, found: Rows | None, *, unsure: npt.NDArray[np.bool_], among: Rows | None
) -> tuple[Vectors, Rows]:
    """Score the found rows (q, f) again, order them, cut at k; scan where `unsure` (q,)."""
    scores, rows = exact.blank(len(queries), k)
    for at, query in enumerate(queries):
        if unsure[at] or found is None:
            some, which = exact.scan(vectors, query, k, among=among)
        else:
            hits = found[at][found[at] >= 0]
            some, which = exact.best(exact.score(vectors, hits, query), hits, k)
        scores[at, : len(some)], rows[at, : len(some)] = some, which
    return scores, rows


def _checked(queries: Vectors, vectors: Vectors, k: int, allow: Allow | None) -> Vectors:
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise UsageError(f"queries of shape {queries.shape} do not fit vectors of length {vectors.shape[1]}")
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    if allow is not None and allow.shape != (len(vectors),):
        raise UsageError(f"allow has shape {allow.shape}, not ({len(vectors)},)")
    if not np.isfinite(queries).all():
        raise UsageError("a query vector is not a number")
    return np.ascontiguousarray(queries, np.float32)
