"""FAISS on a GPU, where there is one: exact search over vectors, and copies of indexes to search in.

In: what the settings say of the device. Out: the same rows as on the CPU but for rounding; they are scored again there.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from recsys.errors import ConfigError
from recsys.types import Device, FloatArray, IntArray

MOST: Final = 2048
"""Rows a query that FAISS can fetch, and lists it can visit, on a GPU."""


def gpu_available(device: Device) -> bool:
    """Whether to search on a GPU.

    Raises:
        ConfigError: cuda is asked for and FAISS sees none.
    """
    if device == "cpu":
        return False
    import faiss

    found = bool(faiss.get_num_gpus() > 0)
    if device == "cuda" and not found:
        raise ConfigError('[index] device = "cuda", but FAISS sees no GPU; set it to "auto" or "cpu"')
    return found


def gpu_knn(queries: FloatArray, pool: FloatArray, k: int, *, device: Device) -> tuple[FloatArray, IntArray]:
    """The k rows of `pool` (m, d) with the highest inner products, as FAISS rounds them: scores (q, k), rows (q, k).

    Raises:
        ConfigError: see `gpu_available`.
    """
    import faiss

    if gpu_available(device) and k <= MOST:
        found = faiss.knn_gpu(_resources(), queries, pool, k, metric=faiss.METRIC_INNER_PRODUCT)
    else:
        found = faiss.knn(queries, pool, k, metric=faiss.METRIC_INNER_PRODUCT)
    scores, rows = found
    return scores, rows


def copy_to_gpu(engine: Any) -> Any:
    """An inverted file, copied to the first GPU."""
    import faiss

    return faiss.index_cpu_to_gpu(_resources(), 0, engine)


def gpu_training_index(dim: int) -> Any:
    """An index that k-means can look for the nearest centroids in."""
    import faiss

    return faiss.index_cpu_to_gpu(_resources(), 0, faiss.IndexFlatIP(dim))


@cache
def _resources() -> Any:
    import faiss

    return faiss.StandardGpuResources()
