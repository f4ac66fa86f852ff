from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from recsys.errors import UsageError
from recsys.vectors.index import build as index_room
from recsys.vectors.index.build import KINDS, build_index, recall_at_k
from recsys.vectors.index.faiss_index import SEARCH_EFFORTS
from recsys.vectors.index.flat import FlatIndex
from tests.suites import VectorIndexSuite, clustered


class TestFlat(VectorIndexSuite):
    exact = True

    def make(self, vectors, seed=0):
        return build_index(vectors, "flat", seed=seed)


class TestIvf(VectorIndexSuite):
    exact = False

    def make(self, vectors, seed=0):
        return build_index(vectors, "ivf", seed=seed)


class TestHnsw(VectorIndexSuite):
    exact = False

    def make(self, vectors, seed=0):
        return build_index(vectors, "hnsw", seed=seed)


class TestPq(VectorIndexSuite):
    exact = False

    def make(self, vectors, seed=0):
        return build_index(vectors, "pq", seed=seed)


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "pq"])
def test_effort_is_raised_until_enough_is_found(kind, monkeypatch, caplog):
    vectors = clustered(4000, 64, seed=0)
    built = {}
    for target in (0.0, 0.97, 1.01):
        monkeypatch.setattr(index_room, "TARGET_RECALL", target)
        built[target] = build_index(vectors, kind)
        assert ("% of the true neighbours" in caplog.text) is (target > 1)
    efforts = [index.effort for index in built.values()]
    assert efforts[0] == SEARCH_EFFORTS[kind][0] < efforts[1] <= efforts[2] == SEARCH_EFFORTS[kind][-1]
    queries = clustered(200, 64, seed=1)
    assert recall_at_k(built[0.97], vectors, queries) > max(0.95, recall_at_k(built[0.0], vectors, queries))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3])
def test_catalogues_of_hardly_any_products(kind, n):
    vectors = clustered(n, 6, seed=0)
    for q in (1, 12):
        scores, rows = build_index(vectors, kind).search(np.repeat(vectors[-1:], q, axis=0), 5)
        assert (np.sort(rows[:, :n], axis=1) == np.arange(n)).all() and (rows[:, 0] == n - 1).all()
        assert (rows[:, n:] == -1).all() and (scores[:, n:] == -np.inf).all()


def test_recall_is_the_share_of_true_neighbours():
    vectors = np.eye(20, 4, dtype=np.float32)

    class Half(FlatIndex):
        def search(self, queries, k, *, allow=None):
            scores, rows = super().search(queries, k, allow=allow)
            scores[:, k // 2 :], rows[:, k // 2 :] = -np.inf, -1
            return scores, rows

    spread = clustered(200, 8, seed=0)
    assert recall_at_k(FlatIndex(spread), spread, spread[:50]) == 1
    assert recall_at_k(Half(spread), spread, spread[:50]) == 0.5
    assert recall_at_k(FlatIndex(vectors), vectors, vectors[:4], k=30) == 1  # more asked for than there are
    assert recall_at_k(FlatIndex(vectors[:0]), vectors[:0], vectors[:4]) == 1


def test_auto_is_exact_while_that_is_quick(monkeypatch):
    vectors = clustered(300, 4, seed=0)
    assert build_index(vectors, "auto").kind == "flat"
    monkeypatch.setattr(index_room, "FLAT_MAX_PRODUCTS", 299)
    assert build_index(vectors, "auto").kind == "ivf"
    monkeypatch.setattr(index_room, "IVF_MAX_PRODUCTS", 299)
    assert build_index(vectors, "auto").kind == "pq"


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="did you mean 'hnsw'"):
        build_index(clustered(3, 4, seed=0), "hsnw")
    broken = clustered(30, 4, seed=0)
    broken[7, 2] = np.nan
    for kind in KINDS:
        with pytest.raises(UsageError, match="row 7 is not a number"):
            build_index(broken, kind)


def test_a_search_by_product_loads_neither_torch_nor_faiss():
    code = (
        "import sys, numpy as np, polars as pl\n"
        "from recsys.config import ImageSettings\n"
        "from recsys.vectors.embeddings import table, update\n"
        "from recsys.vectors.index import build as index\n"
        "from recsys.vectors.search import engine, filters, neighbours, query\n"
        "from recsys.data.catalogue import Catalogue, Images\n"
        "from recsys.data.id_map import IdMap\n"
        "v = np.eye(5, dtype=np.float32)\n"
        "ids = IdMap('abcde')\n"
        "frame = pl.DataFrame({'product_id': list('abcde'), 'title': list('abcde')})\n"
        "catalogue = Catalogue(ids, frame, np.ones(5, bool), Images.empty(5))\n"
        "t = table.EmbeddingTable(ids, v, np.zeros(5, np.uint64), 'm')\n"
        "finder = engine.SearchEngine(catalogue, t, index=index.build_index(v), model_loader=lambda: 1 / 0,\n"
        "                       lexical_loader=lambda: 1 / 0, images=ImageSettings(), options=engine.SearchOptions())\n"
        "(out,) = finder.search([query.Query(product='b')], 2, where=[None])\n"
        "assert out['product_id'].to_list() == ['a', 'c'], out\n"
        "heavy = {'torch', 'faiss', 'transformers', 'pandas', 'sklearn', 'scipy', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
