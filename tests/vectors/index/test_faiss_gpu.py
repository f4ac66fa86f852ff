"""Searches on a GPU, with a processor in its place: which searches go there, and that the answers stay the same."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.vectors.index import faiss_gpu as gpu
from recsys.vectors.index.build import build_index
from recsys.vectors.index.flat import FlatIndex
from tests.suites import clustered

VECTORS = clustered(1500, 16, seed=0)
QUERIES = clustered(40, 16, seed=1)


@pytest.fixture
def used(monkeypatch):
    """A machine with one GPU; what was asked of it, by name."""
    told = []

    def knn(resources, queries, pool, k, *, metric):
        told.append(("knn", k))
        return faiss.knn(queries, pool, k, metric=metric)

    class Copy:
        def __init__(self, index):
            self.index = faiss.clone_index(index)

        def search(self, queries, k, *, params):
            told.append(("search", k))
            return self.index.search(queries, k, params=params)

    def copied(resources, device, index):
        told.append(("copy", type(index).__name__))
        return faiss.clone_index(index) if isinstance(index, faiss.IndexFlat) else Copy(index)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: None, raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copied, raising=False)
    gpu._resources.cache_clear()
    yield told
    gpu._resources.cache_clear()


def same(one, other):
    assert one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()


def test_exact_search_of_many_goes_there(used):
    allow = np.arange(1500) % 3 > 0
    for mask in (None, allow):
        same(
            FlatIndex(VECTORS, "auto").search(QUERIES, 7, allow=mask),
            FlatIndex(VECTORS, "cpu").search(QUERIES, 7, allow=mask),
        )
        assert [name for name, _ in used] == ["knn"]
        used.clear()
    FlatIndex(VECTORS, "auto").search(QUERIES[:3], 7)
    assert used == []  # a few queries are answered before they would be there


def test_an_inverted_file_is_trained_and_searched_there_but_for_filters(used, monkeypatch):
    index = build_index(VECTORS, "ivf", device="cuda")
    assert used == [("copy", "IndexFlatIP")]  # k-means
    used.clear()
    same(index.search(QUERIES, 7), build_index(VECTORS, "ivf", device="cpu").search(QUERIES, 7))
    assert used[0] == ("copy", "IndexIVFFlat") and [name for name, _ in used] == ["copy", "search"]
    used.clear()
    index.search(QUERIES, 7)
    assert [name for name, _ in used] == ["search"]  # copied once
    used.clear()
    index.search(QUERIES, 7, allow=np.ones(1500, np.bool_))
    monkeypatch.setattr(gpu, "GPU_MAX_ROWS", 100)
    replace(index).search(QUERIES, 101)  # more than FAISS fetches there
    assert "search" not in [name for name, _ in used]


@pytest.mark.parametrize("kind", ["hnsw", "pq"])
def test_the_other_kinds_are_searched_on_the_processor(kind, used):
    index = build_index(VECTORS, kind, device="cuda")
    used.clear()
    index.search(QUERIES, 7)
    assert used == [] and not index.on_gpu


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert not gpu.gpu_available("auto") and not gpu.gpu_available("cpu")
    for kind in ("flat", "ivf"):
        with pytest.raises(ConfigError, match=r"\[index\] device = \"cuda\", but FAISS sees no GPU"):
            build_index(VECTORS, kind, device="cuda").search(QUERIES, 5)
