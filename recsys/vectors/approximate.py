"""Approximate search by FAISS, an inverted file or a graph, for catalogues too large to scan.

In: vectors (n, d), a seed. Out: an index that finds most of the true neighbours in a small part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.vectors import exact
from recsys.vectors.exact import Flags, Rows, Vectors

EFFORTS: Final[dict[str, tuple[int, ...]]] = {"ivf": (4, 8, 16, 32, 64, 128, 256), "hnsw": (32, 64, 128, 256, 512)}
"""Efforts to try by kind, cheapest first."""

_LINKS = 32
_QUEUE = 100


@dataclass(frozen=True)
class FaissIndex:
    """What FAISS finds is scored again, and a query it finds fewer than k rows for is scanned.

    Attributes:
        vectors: (n, d) float32.
        kind: "ivf" or "hnsw".
        engine: the FAISS index over the same rows.
        effort: lists visited (ivf) or length of the candidate queue (hnsw).
    """

    vectors: Vectors = field(repr=False)
    kind: str
    engine: Any = field(repr=False)
    effort: int

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int, *, allow: Flags | None = None) -> tuple[Vectors, Rows]:
        queries = exact.checked(queries, self.vectors, k, allow)
        among = None if allow is None else np.flatnonzero(allow).astype(np.int64)
        # A graph walk that may keep few of the rows it passes finds little; few rows are quickly scanned.
        if among is not None and len(among) <= max(2000, len(self) // 50):
            return exact.scans(self.vectors, queries, k, among=among)
        fetched = min(len(self), k + exact.SLACK)
        _, found = self.engine.search(queries, fetched, params=self._parameters(fetched, allow))
        wanted = min(k, len(self) if among is None else len(among))
        unsure = (found >= 0).sum(axis=1) < wanted
        return exact.settled(self.vectors, queries, k, found, unsure=unsure, among=among)

    def save(self, path: Path) -> None:
        """Write the FAISS part; the vectors themselves lie in the embedding table."""
        import faiss

        faiss.write_index(self.engine, str(path))

    @staticmethod
    def load(vectors: Vectors, kind: str, path: Path, *, effort: int) -> FaissIndex:
        """Read the FAISS part from a file that is known to be ours (`sealed.unseal`)."""
        import faiss

        return FaissIndex(vectors, kind, faiss.read_index(str(path)), effort)

    def _parameters(self, fetched: int, allow: Flags | None) -> Any:
        import faiss

        chosen = {} if allow is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))}
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=self.effort, **chosen)
        return faiss.SearchParametersHNSW(efSearch=max(self.effort, fetched), **chosen)


def engine(vectors: Vectors, kind: str, *, seed: int) -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0."""
    return _MAKE[kind](np.ascontiguousarray(vectors), seed)


def _inverted_file(vectors: Vectors, seed: int) -> Any:
    import faiss

    n, dim = vectors.shape
    lists = max(1, min(n // 39, round(4 * n**0.5)))  # FAISS asks for 39 points a list to train on
    made = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    made.cp.seed = seed + 1
    made.cp.spherical = True
    made.cp.min_points_per_centroid = 1  # a small catalogue is no reason for a warning
    made.train(vectors)
    made.add(vectors)
    return made


def _graph(vectors: Vectors, seed: int) -> Any:
    """Hierarchical navigable small world graph (Malkov and Yashunin 2016).

    Filled by one thread: with more, the links depend on who comes first, and so would the answers.
    """
    import faiss

    del seed  # the levels come from FAISS' own fixed seed
    made = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    made.hnsw.efConstruction = _QUEUE
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        made.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return made


_MAKE: Final[dict[str, Callable[[Vectors, int], Any]]] = {"ivf": _inverted_file, "hnsw": _graph}
