"""FAISS indexes: how each kind is trained, filled and changed; rows keep their numbers inside them.

In: vectors (n, d), a kind, a seed. Out: an index that answers with rows, -1 for places of products that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray
from recsys.vectors.index import faiss_gpu as gpu

FORMAT_VERSION: Final = 2
"""Another number for another way of building: saved indexes of the old way are built again."""

_LINKS, _QUEUE = 32, 100
_TRAINED_ON = 64
"""Vectors a list that k-means looks at, at most."""

_SUB, _BITS = 2, 4
"""Product quantiser: dimensions a code, bits of a code. Codes of 4 bits are looked up in registers."""


def create_faiss_index(vectors: FloatArray, kind: str, *, seed: int, on_gpu: bool = False) -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0; row i is number i."""
    vectors = np.ascontiguousarray(vectors)
    engine = _MAKE[kind](vectors, seed, on_gpu)
    add_rows(engine, vectors, np.arange(len(vectors)))
    return engine


def add_rows(engine: Any, vectors: FloatArray, rows: IntArray) -> None:
    """Add vectors (m, d) under the numbers `rows` (m,)."""
    if len(rows):
        # A graph is filled by one thread: with more, the links depend on who comes first, and so would the answers.
        with _one_thread(only=hasattr(engine, "id_map")):
            engine.add_with_ids(np.ascontiguousarray(vectors), rows)


def renumber(engine: Any, to: IntArray) -> None:
    """Give row i the number `to[i]`; -1 takes it out.

    Lists of whole vectors give the place back. Graphs cannot, and lists of packed codes would mix what is added later
    with what was there: in both the place stays, under -1, which no search returns.
    """
    import faiss

    if hasattr(engine, "id_map"):
        faiss.copy_array_to_vector(_translated(faiss.vector_to_array(engine.id_map), to), engine.id_map)
        return
    for held in _lists(engine):
        held[:] = _translated(held, to)
    if isinstance(engine, faiss.IndexIVFFlat):
        engine.remove_ids(faiss.IDSelectorRange(-1, 0))


def slots_after(engine: Any, left: int) -> int:
    """Places a FAISS index will have when only `left` of its rows stay and nothing is added."""
    import faiss

    return int(left if isinstance(engine, faiss.IndexIVFFlat) else engine.ntotal)


def _translated(held: IntArray, to: IntArray) -> IntArray:
    out: IntArray = np.where(held < 0, -1, to[held])
    return out


def _lists(engine: Any) -> Iterator[IntArray]:
    """The numbers in each inverted list, where they lie: what is written here, the index holds."""
    import faiss

    lists = engine.invlists
    for number in range(lists.nlist):
        if size := lists.list_size(number):
            yield faiss.rev_swig_ptr(lists.get_ids(number), size)


@contextmanager
def _one_thread(*, only: bool) -> Iterator[None]:
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if only else threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _lists_of(n: int) -> int:
    return max(1, min(n // 39, int(4 * n**0.5)))  # FAISS asks for 39 points a list to train on


def _trained(engine: Any, vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    engine.cp.seed = seed + 1
    engine.cp.spherical = True
    engine.cp.min_points_per_centroid = 1  # a small catalogue is no reason for a warning
    engine.cp.max_points_per_centroid = _TRAINED_ON
    nearest = gpu.gpu_training_index(vectors.shape[1]) if on_gpu else None
    engine.clustering_index = nearest
    engine.train(vectors)
    engine.clustering_index = None  # FAISS does not own it
    return engine


def _inverted_file(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Inverted file of whole vectors (Sivic and Zisserman 2003)."""
    import faiss

    n, dim = vectors.shape
    engine = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, _lists_of(n), faiss.METRIC_INNER_PRODUCT)
    return _trained(engine, vectors, seed, on_gpu)


def _codes(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Inverted file of product codes (Jegou et al. 2011), looked up in registers (Andre et al. 2015)."""
    import faiss

    n, dim = vectors.shape
    parts = dim // _SUB if dim % _SUB == 0 else dim
    flat = faiss.IndexFlatIP(dim)
    engine = faiss.IndexIVFPQFastScan(flat, dim, _lists_of(n), parts, _BITS, faiss.METRIC_INNER_PRODUCT)
    engine.pq.cp.min_points_per_centroid = 1
    engine.pq.cp.seed = seed + 1
    least = 1 << _BITS  # of a code's values; the few products of a small catalogue are shown several times
    return _trained(engine, vectors if n >= least else np.resize(vectors, (least, dim)), seed, on_gpu)


def _graph(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Hierarchical navigable small world graph (Malkov and Yashunin 2016)."""
    import faiss

    del seed, on_gpu  # the levels come from FAISS' own fixed seed
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _QUEUE
    return faiss.IndexIDMap(graph)


_MAKE: Final[dict[str, Callable[[FloatArray, int, bool], Any]]] = {"ivf": _inverted_file, "hnsw": _graph, "pq": _codes}
KINDS: Final = tuple(_MAKE)
