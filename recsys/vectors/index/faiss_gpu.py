"""FAISS on a GPU: exact search over vectors, and GPU copies of indexes.

In: the device setting. Out: the same rows as on the CPU except for rounding; the CPU scores them again.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from recsys.errors import ConfigError
from recsys.types import Device, FloatArray, IntArray

GPU_MAX_ROWS: Final = 2048
"""Rows per query that FAISS can fetch, and inverted lists it can probe, on a GPU."""


def gpu_available(device: Device) -> bool:
    """Return whether to search on a GPU.

    Raises:
        ConfigError: cuda is requested and FAISS sees no GPU.
    """
    if device == "cpu":
        return False
    import faiss

    has_gpu = bool(faiss.get_num_gpus() > 0)
    if device == "cuda" and not has_gpu:
        raise ConfigError('[index] device = "cuda", but FAISS sees no GPU; set it to "auto" or "cpu"')
    return has_gpu


def gpu_knn(queries: FloatArray, pool: FloatArray, k: int, *, device: Device) -> tuple[FloatArray, IntArray]:
    """Return the k rows of `pool` (m, d) with the highest inner products, as rounded by FAISS.

    Returns scores (q, k) and rows (q, k); without a GPU it searches on the CPU.

    Raises:
        ConfigError: see `gpu_available`.
    """
    import faiss

    if gpu_available(device) and k <= GPU_MAX_ROWS:
        result = faiss.knn_gpu(_resources(), queries, pool, k, metric=faiss.METRIC_INNER_PRODUCT)
    else:
        result = faiss.knn(queries, pool, k, metric=faiss.METRIC_INNER_PRODUCT)
    scores, rows = result
    return scores, rows


def copy_to_gpu(engine: Any) -> Any:
    """Copy an inverted file to the first GPU."""
    import faiss

    return faiss.index_cpu_to_gpu(_resources(), 0, engine)


def gpu_training_index(dim: int) -> Any:
    """Return a GPU index in which k-means finds the nearest centroids."""
    import faiss

    return faiss.index_cpu_to_gpu(_resources(), 0, faiss.IndexFlatIP(dim))


@cache
def _resources() -> Any:
    """Return the GPU resources, created once per process."""
    import faiss

    return faiss.StandardGpuResources()
