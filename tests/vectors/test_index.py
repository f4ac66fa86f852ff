from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from recsys.errors import UsageError
from recsys.vectors import index as index_room
from recsys.vectors.approximate import EFFORTS
from recsys.vectors.exact import FlatIndex
from recsys.vectors.index import build, open_index, recall
from tests.suites import VectorIndexSuite, clustered


class TestFlat(VectorIndexSuite):
    exact = True

    def make(self, vectors, seed=0):
        return build(vectors, "flat", seed=seed)


class TestIvf(VectorIndexSuite):
    exact = False

    def make(self, vectors, seed=0):
        return build(vectors, "ivf", seed=seed)


class TestHnsw(VectorIndexSuite):
    exact = False

    def make(self, vectors, seed=0):
        return build(vectors, "hnsw", seed=seed)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_effort_is_raised_until_enough_is_found(kind, monkeypatch, caplog):
    vectors = clustered(4000, 64, seed=0)
    built = {}
    for target in (0.0, 0.97, 1.01):
        monkeypatch.setattr(index_room, "TARGET_RECALL", target)
        built[target] = build(vectors, kind)
        assert ("% of the true neighbours" in caplog.text) is (target > 1)
    efforts = [index.effort for index in built.values()]
    assert efforts[0] == EFFORTS[kind][0] < efforts[1] <= efforts[2] == EFFORTS[kind][-1]
    queries = clustered(200, 64, seed=1)
    assert recall(built[0.97], vectors, queries) > max(0.95, recall(built[0.0], vectors, queries))


def test_recall_is_the_share_of_true_neighbours():
    vectors = np.eye(20, 4, dtype=np.float32)

    class Half(FlatIndex):
        def search(self, queries, k, *, allow=None):
            scores, rows = super().search(queries, k, allow=allow)
            scores[:, k // 2 :], rows[:, k // 2 :] = -np.inf, -1
            return scores, rows

    spread = clustered(200, 8, seed=0)
    assert recall(FlatIndex(spread), spread, spread[:50]) == 1
    assert recall(Half(spread), spread, spread[:50]) == 0.5
    assert recall(FlatIndex(vectors), vectors, vectors[:4], k=30) == 1  # more asked for than there are
    assert recall(FlatIndex(vectors[:0]), vectors[:0], vectors[:4]) == 1


def test_auto_is_exact_while_that_is_quick(monkeypatch):
    vectors = clustered(300, 4, seed=0)
    assert build(vectors, "auto").kind == "flat"
    monkeypatch.setattr(index_room, "EXACT_UP_TO", 299)
    assert build(vectors, "auto").kind == "ivf"


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="did you mean 'hnsw'"):
        build(clustered(3, 4, seed=0), "hsnw")
    broken = clustered(30, 4, seed=0)
    broken[7, 2] = np.nan
    for kind in ("flat", "ivf", "hnsw"):
        with pytest.raises(UsageError, match="row 7 is not a number"):
            build(broken, kind)


class TestSaved:
    @pytest.fixture
    def vectors(self):
        return clustered(800, 8, seed=1)

    @pytest.mark.parametrize("kind", ["ivf", "hnsw"])
    def test_loaded_it_answers_as_before(self, kind, vectors, tmp_path):
        first = open_index(vectors, kind, folder=tmp_path)
        again = open_index(vectors, kind, folder=tmp_path)
        assert first.built and again.built is None
        assert again.recall == first.recall >= 0.9
        for one, other in zip(*(opened.index.search(vectors[:40], 5) for opened in (first, again)), strict=True):
            assert one.tobytes() == other.tobytes()

    def test_exact_search_has_no_file(self, vectors, tmp_path):
        assert open_index(vectors, "auto", folder=tmp_path).built is None
        assert not list(tmp_path.iterdir())

    def test_an_altered_file_is_built_again_and_said_so(self, vectors, tmp_path, caplog):
        open_index(vectors, "hnsw", folder=tmp_path)
        (file,) = tmp_path.glob("*.faiss")
        blob = bytearray(file.read_bytes())
        blob[len(blob) // 2] ^= 1
        file.write_bytes(blob)
        opened = open_index(vectors, "hnsw", folder=tmp_path)
        assert "altered" in opened.built and "altered" in caplog.text
        assert open_index(vectors, "hnsw", folder=tmp_path).built is None

    def test_a_file_without_its_line_in_the_manifest_is_not_read(self, vectors, tmp_path):
        open_index(vectors, "hnsw", folder=tmp_path)
        (tmp_path / "index.json").unlink()
        assert open_index(vectors, "hnsw", folder=tmp_path).built == "none was saved"

    @pytest.mark.parametrize("damage", ["", "[]", "{}", '{"facts": {}, "files": {"engine.faiss": {}}}', "\x00"])
    def test_a_broken_manifest_is_replaced(self, damage, vectors, tmp_path):
        open_index(vectors, "ivf", folder=tmp_path)
        (tmp_path / "index.json").write_text(damage)
        assert "not a manifest" in open_index(vectors, "ivf", folder=tmp_path).built
        assert open_index(vectors, "ivf", folder=tmp_path).built is None

    def test_a_manifest_cannot_name_files_elsewhere(self, vectors, tmp_path):
        folder = tmp_path / "index"
        open_index(vectors, "ivf", folder=folder)
        (file,) = folder.glob("*.faiss")
        file.rename(tmp_path / file.name)
        text = (folder / "index.json").read_text()
        (folder / "index.json").write_text(text.replace(file.name, f"../{file.name}"))
        assert "beside it" in open_index(vectors, "ivf", folder=folder).built

    def test_other_vectors_kind_or_seed_are_another_index(self, vectors, tmp_path):
        open_index(vectors, "hnsw", folder=tmp_path)
        other = vectors.copy()
        other[3] = other[4]
        assert "vectors" in open_index(other, "hnsw", folder=tmp_path).built
        assert "kind" in open_index(other, "ivf", folder=tmp_path).built
        assert "seed" in open_index(other, "ivf", folder=tmp_path, seed=1).built
        assert open_index(other, "ivf", folder=tmp_path, seed=1, fresh=True).built == "asked for"
        assert len(list(tmp_path.iterdir())) == 2  # the manifest and one file: nothing old is left


def test_a_search_by_product_loads_neither_torch_nor_faiss():
    code = (
        "import sys, numpy as np, polars as pl\n"
        "from recsys.vectors import search, index, table, build, neighbours, filters\n"
        "from recsys.data.catalogue import Catalogue, Pictures\n"
        "from recsys.data.ids import IdMap\n"
        "v = np.eye(5, dtype=np.float32)\n"
        "ids = IdMap('abcde')\n"
        "frame = pl.DataFrame({'product_id': list('abcde'), 'title': list('abcde')})\n"
        "catalogue = Catalogue(ids, frame, np.ones(5, bool), Pictures.none(5))\n"
        "t = table.EmbeddingTable(ids, v, np.zeros(5, np.uint64), 'm')\n"
        "out = search.similar(search.Query(product='b'), catalogue=catalogue, table=t, index=index.build(v),\n"
        "                     model_loader=lambda: 1 / 0, k=2)\n"
        "assert out['product_id'].to_list() == ['a', 'c'], out\n"
        "heavy = {'torch', 'faiss', 'transformers', 'pandas', 'sklearn', 'scipy', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
