"""Train, fill and modify FAISS indexes of each kind; stored ids are table rows.

In: vectors (n, d), a kind, a seed. Out: an index that returns rows, -1 for slots of removed products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from recsys.types import FloatArray, IntArray
from recsys.vectors.index.faiss_gpu import gpu_training_index

FORMAT_VERSION: Final = 2
"""Version of the construction; saved indexes of another version are rebuilt."""

_HNSW_LINKS, _HNSW_EF_CONSTRUCTION = 32, 100
"""HNSW: links of a node, and length of the candidate queue during construction."""
_MAX_TRAIN_PER_LIST = 64
"""Training vectors per inverted list, at most."""

_PQ_DIMENSIONS, _PQ_BITS = 2, 4
"""Product quantiser: dimensions per code, bits per code. 4-bit codes are looked up in registers."""


def create_faiss_index(vectors: FloatArray, kind: str, *, seed: int, on_gpu: bool = False) -> Any:
    """Train and fill the FAISS index of a kind with vectors (n, d), n > 0; row i gets id i."""
    vectors = np.ascontiguousarray(vectors)
    engine = _FACTORIES[kind](vectors, seed, on_gpu)
    add_rows(engine, vectors, np.arange(len(vectors)))
    return engine


def add_rows(engine: Any, vectors: FloatArray, rows: IntArray) -> None:
    """Add vectors (m, d) under the ids `rows` (m,)."""
    if len(rows):
        # A graph is filled by one thread: with more, links and results would depend on the thread schedule.
        with _single_thread(only=hasattr(engine, "id_map")):
            engine.add_with_ids(np.ascontiguousarray(vectors), rows)


def change_ids(engine: Any, new_ids: IntArray) -> None:
    """Change the id of row i to `to[i]`; -1 removes it.

    Inverted lists of full vectors free the slot. Graphs cannot, and in lists of packed codes later additions would mix
    with old entries: in both the slot stays, under id -1, which no search returns.
    """
    import faiss

    if hasattr(engine, "id_map"):
        faiss.copy_array_to_vector(_map_ids(faiss.vector_to_array(engine.id_map), new_ids), engine.id_map)
        return
    for ids in _inverted_list_ids(engine):
        ids[:] = _map_ids(ids, new_ids)
    if isinstance(engine, faiss.IndexIVFFlat):
        engine.remove_ids(faiss.IDSelectorRange(-1, 0))


def slots_after_removal(engine: Any, remaining: int) -> int:
    """Return the slots of a FAISS index once only `remaining` of its rows remain."""
    import faiss

    return int(remaining if isinstance(engine, faiss.IndexIVFFlat) else engine.ntotal)


def _map_ids(ids: IntArray, to: IntArray) -> IntArray:
    """Map stored ids to new ones; -1 stays -1."""
    out: IntArray = np.where(ids < 0, -1, to[ids])
    return out


def _inverted_list_ids(engine: Any) -> Iterator[IntArray]:
    """Yield the ids of each inverted list as a view: writing to it changes the index."""
    import faiss

    lists = engine.invlists
    for number in range(lists.nlist):
        if size := lists.list_size(number):
            yield faiss.rev_swig_ptr(lists.get_ids(number), size)


@contextmanager
def _single_thread(*, only: bool) -> Iterator[None]:
    """Limit FAISS to one thread where `only` is set."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if only else threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _n_lists(n: int) -> int:
    """Return the number of inverted lists for n vectors."""
    return max(1, min(n // 39, int(4 * n**0.5)))  # FAISS recommends 39 training points per list


def _train_ivf(engine: Any, vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Train an inverted file by spherical k-means."""
    engine.cp.seed = seed + 1
    engine.cp.spherical = True
    engine.cp.min_points_per_centroid = 1  # no warning for small catalogues
    engine.cp.max_points_per_centroid = _MAX_TRAIN_PER_LIST
    assignment_index = gpu_training_index(vectors.shape[1]) if on_gpu else None
    engine.clustering_index = assignment_index
    engine.train(vectors)
    engine.clustering_index = None  # FAISS does not own it
    return engine


def _create_ivf(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Inverted file of full vectors (Sivic and Zisserman 2003)."""
    import faiss

    n, dim = vectors.shape
    engine = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, _n_lists(n), faiss.METRIC_INNER_PRODUCT)
    return _train_ivf(engine, vectors, seed, on_gpu)


def _create_pq(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Inverted file of product codes (Jegou et al. 2011), looked up in registers (Andre et al. 2015)."""
    import faiss

    n, dim = vectors.shape
    parts = dim // _PQ_DIMENSIONS if dim % _PQ_DIMENSIONS == 0 else dim
    quantizer = faiss.IndexFlatIP(dim)
    engine = faiss.IndexIVFPQFastScan(quantizer, dim, _n_lists(n), parts, _PQ_BITS, faiss.METRIC_INNER_PRODUCT)
    engine.pq.cp.min_points_per_centroid = 1
    engine.pq.cp.seed = seed + 1
    min_training = 1 << _PQ_BITS  # values of a code; the products of a small catalogue are repeated
    return _train_ivf(engine, vectors if n >= min_training else np.resize(vectors, (min_training, dim)), seed, on_gpu)


def _create_hnsw(vectors: FloatArray, seed: int, on_gpu: bool) -> Any:
    """Hierarchical navigable small world graph (Malkov and Yashunin 2016)."""
    import faiss

    del seed, on_gpu  # FAISS draws the levels from its own fixed seed
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _HNSW_EF_CONSTRUCTION
    return faiss.IndexIDMap(graph)


_FACTORIES: Final[dict[str, Callable[[FloatArray, int, bool], Any]]] = {
    "ivf": _create_ivf,
    "hnsw": _create_hnsw,
    "pq": _create_pq,
}
KINDS: Final = tuple(_FACTORIES)
