"""Approximate search by FAISS: inverted files of vectors or codes, or a graph.

In: vectors (n, d), a FAISS index over them. Out: an index that finds most of the true neighbours in a fraction of the
time of a scan; the rows FAISS returns are scored again with the full vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.types import BoolArray, Device, FloatArray, IntArray
from recsys.vectors.index import faiss_gpu
from recsys.vectors.index.faiss_factory import create_faiss_index
from recsys.vectors.index.flat import FlatIndex, rescore, validate_queries

SEARCH_EFFORTS: Final[dict[str, tuple[int, ...]]] = {
    "ivf": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "hnsw": (32, 48, 64, 96, 128, 192, 256, 384, 512),
    "pq": (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
}
"""Search efforts to try by kind, cheapest first."""

OVERFETCH_FACTORS: Final = {"ivf": (1,), "hnsw": (1,), "pq": (10, 20, 40, 80)}
"""Factors of rows to fetch, to try, lowest first, so that the best by code contain the best by vector."""

_MIN_K: Final = 10
"""Lowest k assumed where more rows are fetched: the very nearest by vector may not be so by code."""

_LIST_SELECTION_NS, _LIST_ROW_NS, _GRAPH_NODE_NS, _GATHER_NS, _MULTIPLY_NS = 50_000.0, 5.0, 3000.0, 150.0, 15.0
"""Nanoseconds of the steps of filtered searches, as measured with vectors of length 128.

In order: to select the lists to probe, to pass a row in a list, to visit another node of a graph; to gather a scanned
row, to multiply it with a query.
"""


@dataclass(frozen=True)
class FaissIndex:
    """FAISS search with exact rescoring; a query with fewer than k rows found is scanned.

    Attributes:
        vectors: (n, d) float32.
        kind: "ivf", "hnsw" or "pq".
        engine: the FAISS index over the same rows.
        effort: lists probed (ivf, pq) or length of the candidate queue (hnsw).
        width: rows fetched per result.
        device: where FAISS searches; only an inverted file of vectors can use a GPU, and only without a filter.
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
        """Slots of the FAISS index that hold removed products."""
        return int(self.engine.ntotal) - len(self)

    @cached_property
    def on_gpu(self) -> bool:
        """Whether unfiltered searches run on a GPU."""
        return faiss_gpu.gpu_available(self.device) and self.kind == "ivf" and self.effort <= faiss_gpu.GPU_MAX_ROWS

    @cached_property
    def _unfiltered(self) -> tuple[Any, Any, int]:
        """FAISS index, parameters and largest number of rows of an unfiltered search."""
        max_rows = self.effort if self.kind == "hnsw" else faiss_gpu.GPU_MAX_ROWS if self.on_gpu else len(self)
        on_gpu = self.on_gpu and not self.removed_count
        return (
            faiss_gpu.copy_to_gpu(self.engine) if on_gpu else self.engine,
            self._search_parameters(1, None, len(self)),
            max_rows,
        )

    def search(self, queries: FloatArray, k: int, *, allow: BoolArray | None = None) -> tuple[FloatArray, IntArray]:
        """Return the k best rows of each query; see `recsys.vectors.index.build.VectorIndex.search`."""
        queries = validate_queries(queries, self.vectors, k, allow)
        n_allowed = len(self) if allow is None else int(np.count_nonzero(allow))
        if allow is not None and self._scan_is_faster(n_allowed, len(queries)):
            return FlatIndex(self.vectors, self.device).search(queries, k, allow=allow)
        n_fetched = min(len(self), k if self.width == 1 else max(k, _MIN_K) * self.width)
        engine, parameters, max_rows = self._unfiltered
        if allow is not None or n_fetched > max_rows:
            engine, parameters = self.engine, self._search_parameters(n_fetched, allow, n_allowed)
        rows = engine.search(queries, n_fetched, params=parameters)[1]
        incomplete = rows[:, min(k, n_allowed) - 1] < 0
        if n_fetched > k:
            rows = _best_by_vector(self.vectors, queries, rows, k)
        return rescore(self.vectors, queries, k, rows, incomplete=incomplete, allow=allow)

    def save(self, path: Path) -> None:
        """Write the FAISS index; the vectors are stored in the embedding table."""
        import faiss

        faiss.write_index(self.engine, str(path))

    def _search_parameters(self, n_fetched: int, allow: BoolArray | None, n_allowed: int) -> Any:
        """Return FAISS parameters of a search among the allowed rows."""
        if allow is None and not self.removed_count:
            return default_search_params(self.kind, max(self.effort, n_fetched) if self.kind == "hnsw" else self.effort)
        effort = max(self.effort_for(n_allowed), n_fetched if self.kind == "hnsw" else 1)
        return search_params(self.kind, effort, self._all_rows if allow is None else mask_selector(allow))

    def effort_for(self, n_allowed: int) -> int:
        """Return the effort that reaches the usual recall when only `n_allowed` rows are allowed.

        The best ten of a twentieth of the products lie as far from the query as the best 200 of all. In a graph the
        other nodes on the way fill the queue; the number of lists to probe grows with the square root only, as
        measured.
        """
        share = max(n_allowed, 1) / int(self.engine.ntotal)
        if self.kind == "hnsw":
            return min(len(self), round(self.effort / share))
        return min(int(self.engine.nlist), round(self.effort / math.sqrt(share)))

    def _scan_is_faster(self, n_allowed: int, n_queries: int) -> bool:
        """Return whether scanning all allowed rows takes no longer than a filtered search."""
        effort = self.effort_for(n_allowed)
        search_ns = (
            effort * _GRAPH_NODE_NS if self.kind == "hnsw" else len(self) / self.engine.nlist * effort * _LIST_ROW_NS
        )
        return n_allowed * (_GATHER_NS / max(1, n_queries) + _MULTIPLY_NS) <= _LIST_SELECTION_NS + search_ns

    @cached_property
    def _all_rows(self) -> Any:
        """Selector of all rows, which leaves out removed slots."""
        return mask_selector(np.ones(len(self), np.bool_))


def _best_by_vector(vectors: FloatArray, queries: FloatArray, rows: IntArray, k: int) -> IntArray:
    """Return the k best of retrieved rows (q, f), -1 = none, by inner products as FAISS computes them."""
    import faiss

    scores = np.empty(rows.shape, np.float32)
    contiguous = np.ascontiguousarray(vectors)
    pointers = map(faiss.swig_ptr, (scores, queries, contiguous, rows))
    faiss.fvec_inner_products_by_idx(*pointers, contiguous.shape[1], *rows.shape)  # -inf where there is no row
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    out: IntArray = rows[np.arange(len(rows))[:, None], best]
    return out


def mask_selector(allow: BoolArray) -> Any:
    """Return a mask (n,) as a FAISS selector; id -1 is not selected."""
    import faiss

    return faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))


def search_params(kind: str, effort: int, rows: Any) -> Any:
    """Return FAISS parameters of a search among the rows of a selector."""
    import faiss

    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=effort, sel=rows)
    return faiss.SearchParametersIVF(nprobe=effort, sel=rows)


@cache
def default_search_params(kind: str, effort: int) -> Any:
    """Return FAISS parameters of an unfiltered search.

    Cached, since creating them takes as long as probing a list.
    """
    import faiss

    return faiss.SearchParametersHNSW(efSearch=effort) if kind == "hnsw" else faiss.SearchParametersIVF(nprobe=effort)


def train_faiss_index(vectors: FloatArray, kind: str, *, seed: int, device: Device = "cpu") -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0."""
    return create_faiss_index(vectors, kind, seed=seed, on_gpu=faiss_gpu.gpu_available(device))
