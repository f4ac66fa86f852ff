"""Approximate search by FAISS, for catalogues too large to scan: inverted files of vectors or codes, or a graph.

In: vectors (n, d), a FAISS index over them. Out: an index that finds most of the true neighbours in a small part of the
time; what FAISS finds is scored again by the vectors themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.types import BoolArray, Device, FloatArray, IntArray
from recsys.vectors.index import faiss_factory as engines
from recsys.vectors.index import faiss_gpu as gpu
from recsys.vectors.index import flat as exact
from recsys.vectors.index.flat import FlatIndex

EFFORTS: Final[dict[str, tuple[int, ...]]] = {
    "ivf": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "hnsw": (32, 48, 64, 96, 128, 192, 256, 384, 512),
    "pq": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
}
"""Efforts to try by kind, cheapest first."""

WIDTHS: Final = {"ivf": (1,), "hnsw": (1,), "pq": (10, 20, 40, 80)}
"""Rows to fetch for each row wanted, so that the best by codes hold the best by vectors; to try, fewest first."""

_LEAST: Final = 10
"""Rows counted as wanted at least, where more are fetched: the very nearest may not be so by its code."""

_BEGUN, _PASSED, _MET, _GATHERED, _MULTIPLIED = 50_000.0, 5.0, 3000.0, 150.0, 15.0
"""Nanoseconds of searches with a filter, as measured with vectors of length 128: to find the lists to visit, to pass a
row in one, to go on to another row of a graph; to gather a row that is scanned, to multiply it with a query."""


@dataclass(frozen=True)
class FaissIndex:
    """What FAISS finds is scored again, and a query it finds fewer than k rows for is scanned.

    Attributes:
        vectors: (n, d) float32.
        kind: "ivf", "hnsw" or "pq".
        engine: the FAISS index over the same rows.
        effort: lists visited (ivf, pq) or length of the candidate queue (hnsw).
        width: rows fetched for each row wanted.
        device: where FAISS searches; only an inverted file of vectors can on a GPU, and only without a filter.
    """

    vectors: FloatArray = field(repr=False)
    kind: str
    engine: Any = field(repr=False)
    effort: int
    width: int = 1
    device: Device = "cpu"

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def removed_count(self) -> int:
        """Places of the FAISS index that belong to no product any more."""
        return int(self.engine.ntotal) - len(self)

    @cached_property
    def on_gpu(self) -> bool:
        """Whether searches without a filter go to a GPU."""
        return gpu.gpu_available(self.device) and self.kind == "ivf" and self.effort <= gpu.MOST

    @cached_property
    def _usual(self) -> tuple[Any, Any, int]:
        """For a search without a filter: where, with which parameters, and up to how many rows so."""
        most = self.effort if self.kind == "hnsw" else gpu.MOST if self.on_gpu else len(self)
        on_gpu = self.on_gpu and not self.removed_count
        return gpu.copy_to_gpu(self.engine) if on_gpu else self.engine, self._parameters(1, None, len(self)), most

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        queries = exact.validate_queries(queries, self.vectors, k, allow)
        counted = len(self) if allow is None else int(np.count_nonzero(allow))
        if allow is not None and self._scanned(counted, len(queries)):
            return FlatIndex(self.vectors, self.device).search(queries, k, allow=allow)
        fetched = min(len(self), k if self.width == 1 else max(k, _LEAST) * self.width)
        engine, parameters, most = self._usual
        if allow is not None or fetched > most:
            engine, parameters = self.engine, self._parameters(fetched, allow, counted)
        found = engine.search(queries, fetched, params=parameters)[1]
        unsure = found[:, min(k, counted) - 1] < 0
        if fetched > k:
            found = _best(self.vectors, queries, found, k)
        return exact.rescore(self.vectors, queries, k, found, unsure=unsure, allow=allow)

    def save(self, path: Path) -> None:
        """Write the FAISS part; the vectors themselves lie in the embedding table."""
        import faiss

        faiss.write_index(self.engine, str(path))

    def _parameters(self, fetched: int, allow: BoolArray | None, counted: int) -> Any:
        if allow is None and not self.removed_count:
            return default_search_params(self.kind, max(self.effort, fetched) if self.kind == "hnsw" else self.effort)
        effort = max(self.effort_among(counted), fetched if self.kind == "hnsw" else 1)
        return search_params(self.kind, effort, self._present if allow is None else selector(allow))

    def effort_among(self, counted: int) -> int:
        """The effort that finds as much among `counted` of the places as the usual one does among all.

        The best ten of a twentieth of the products lie as far from the query as the best 200 of all. In a graph the
        others on the way take up the queue; the lists that have to be visited grow with the root only, as measured.
        """
        share = max(counted, 1) / int(self.engine.ntotal)
        if self.kind == "hnsw":
            return min(len(self), round(self.effort / share))
        return min(int(self.engine.nlist), round(self.effort / math.sqrt(share)))

    def _scanned(self, counted: int, queries: int) -> bool:
        """Whether to look at every row that counts takes no longer than to search among them."""
        effort = self.effort_among(counted)
        visited = effort * _MET if self.kind == "hnsw" else len(self) / self.engine.nlist * effort * _PASSED
        return counted * (_GATHERED / max(1, queries) + _MULTIPLIED) <= _BEGUN + visited

    @cached_property
    def _present(self) -> Any:
        return selector(np.ones(len(self), np.bool_))


def _best(vectors: FloatArray, queries: FloatArray, found: IntArray, k: int) -> IntArray:
    """The k best of each line of found rows (q, f), -1 = none, by the vectors as FAISS multiplies them."""
    import faiss

    scores = np.empty(found.shape, np.float32)
    held = np.ascontiguousarray(vectors)
    pointers = map(faiss.swig_ptr, (scores, queries, held, found))
    faiss.fvec_inner_products_by_idx(*pointers, held.shape[1], *found.shape)  # -inf where there is no row
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    out: IntArray = found[np.arange(len(found))[:, None], best]
    return out


def selector(allow: BoolArray) -> Any:
    """FAISS' own form of a mask (n,); a row of -1 is not in it."""
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))


def search_params(kind: str, effort: int, rows: Any) -> Any:
    """Parameters of one search among the rows that a selector lets through."""
    import faiss

    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=effort, sel=rows)
    return faiss.SearchParametersIVF(nprobe=effort, sel=rows)


@cache
def default_search_params(kind: str, effort: int) -> Any:
    """Parameters of a search among all rows; kept, since making them takes as long as looking into a list."""
    import faiss

    return faiss.SearchParametersHNSW(efSearch=effort) if kind == "hnsw" else faiss.SearchParametersIVF(nprobe=effort)


def engine(vectors: FloatArray, kind: str, *, seed: int, device: Device = "cpu") -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0."""
    return engines.create_faiss_index(vectors, kind, seed=seed, on_gpu=gpu.gpu_available(device))
