from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.config import IndexSettings
from recsys.data.id_map import IdMap
from recsys.errors import UsageError
from recsys.vectors.embeddings import hashing as digests
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.index import cache as saved_room
from recsys.vectors.index.cache import open_index
from recsys.vectors.index.faiss_index import FaissIndex
from recsys.vectors.index.flat import FlatIndex
from tests import oracles
from tests.suites import clustered

APPROXIMATE = ("ivf", "hnsw", "pq")
LOOSE = {"max_changed": 9.0, "max_removed": 1.0, "max_recall_loss": 1.0}


def table(vectors, ids=None):
    texts = [f"p{row}" for row in range(len(vectors))] if ids is None else ids
    return EmbeddingTable(IdMap(texts), np.array(vectors, np.float32), np.zeros(len(vectors), np.uint64), "m")


def opened(kind, folder, vectors, ids=None, *, seed=0, fresh=False, **bounds):
    return open_index(
        table(vectors, ids), IndexSettings(kind=kind, **bounds), folder=folder, seed=seed, force_rebuild=fresh
    )


class TestCache:
    @pytest.fixture
    def vectors(self):
        return clustered(800, 8, seed=1)

    @pytest.mark.parametrize("kind", APPROXIMATE)
    def test_loaded_it_answers_as_before(self, kind, vectors, tmp_path):
        first, again = opened(kind, tmp_path, vectors), opened(kind, tmp_path, vectors)
        assert first.status == "built: none was saved" and again.status == "unchanged" and again.build_reason is None
        assert again.recall == first.recall >= 0.9 and again.metrics == first.metrics
        for one, other in zip(*(found.index.search(vectors[:40], 5) for found in (first, again)), strict=True):
            assert one.tobytes() == other.tobytes()

    def test_exact_search_has_no_file(self, vectors, tmp_path):
        assert opened("auto", tmp_path, vectors).build_reason is None
        assert not list(tmp_path.iterdir())

    def test_exact_search_is_measured_when_asked(self, vectors, tmp_path):
        for said in ("built: none was saved", "unchanged"):
            found = open_index(table(vectors), IndexSettings(), folder=tmp_path, measure=True)
            assert found.status == said and found.index.kind == "flat" and found.recall == 1
        moved = open_index(table(vectors[1:]), IndexSettings(), folder=tmp_path, measure=True)
        assert moved.status == "rebuilt: the vectors changed since they were measured"

    def test_few_queries_need_no_index(self, vectors, tmp_path, monkeypatch):
        monkeypatch.setattr("recsys.vectors.index.build.FLAT_MAX_PRODUCTS", 10)
        found = open_index(table(vectors), IndexSettings(), folder=tmp_path, queries=1)
        assert isinstance(found.index, FlatIndex) and not list(tmp_path.iterdir())
        for queries in (None, saved_room.BRUTE_FORCE_QUERIES + 1):
            assert open_index(table(vectors), IndexSettings(), folder=tmp_path, queries=queries).index.kind == "ivf"
        asked_for = open_index(table(vectors), IndexSettings(kind="pq"), folder=tmp_path, queries=1)
        assert asked_for.index.kind == "pq"

    @pytest.mark.parametrize("part", ["engine", "products"])
    def test_an_altered_file_is_built_again_and_said_so(self, part, vectors, tmp_path, caplog):
        opened("hnsw", tmp_path, vectors)
        (file,) = tmp_path.glob(f"index-{part}-*")
        blob = bytearray(file.read_bytes())
        blob[len(blob) // 2] ^= 1
        file.write_bytes(blob)
        found = opened("hnsw", tmp_path, vectors)
        assert "altered" in found.status and found.status.startswith("rebuilt") and "altered" in caplog.text
        assert opened("hnsw", tmp_path, vectors).build_reason is None

    def test_a_file_of_another_catalogue_in_its_place_is_not_read(self, vectors, tmp_path):
        opened("ivf", tmp_path / "a", vectors)
        opened("ivf", tmp_path / "b", vectors[::-1])
        one, other = (next((tmp_path / name).glob("*.faiss")) for name in "ab")
        one.write_bytes(other.read_bytes())
        assert "altered" in opened("ivf", tmp_path / "a", vectors).build_reason

    def test_the_whole_folder_of_another_catalogue_is_built_again(self, vectors, tmp_path):
        opened("ivf", tmp_path, clustered(700, 8, seed=9), [f"other{row}" for row in range(700)])
        found = opened("ivf", tmp_path, vectors)
        assert "214.3% of the products were added, removed or changed" in found.build_reason  # (700 + 800) / 700
        assert found.index.search(vectors[:20], 1)[1][:, 0].tolist() == list(range(20))

    def test_a_file_without_its_line_in_the_manifest_is_not_read(self, vectors, tmp_path):
        opened("hnsw", tmp_path, vectors)
        (tmp_path / "index.json").unlink()
        assert opened("hnsw", tmp_path, vectors).build_reason == "none was saved"

    @pytest.mark.parametrize("damage", ["", "[]", "{}", '{"facts": {}, "files": {"engine.faiss": {}}}', "\x00"])
    def test_a_broken_manifest_is_replaced(self, damage, vectors, tmp_path):
        opened("ivf", tmp_path, vectors)
        (tmp_path / "index.json").write_text(damage)
        assert "not a manifest" in opened("ivf", tmp_path, vectors).build_reason
        assert opened("ivf", tmp_path, vectors).build_reason is None

    @pytest.mark.parametrize("missing", ["state", "measured", "effort", "trained"])
    def test_a_manifest_without_a_fact_is_replaced(self, missing, vectors, tmp_path):
        opened("ivf", tmp_path, vectors)
        content = json.loads((tmp_path / "index.json").read_text())
        del content["facts"][missing]
        (tmp_path / "index.json").write_text(json.dumps(content))
        assert f"cannot be read (KeyError: '{missing}')" in opened("ivf", tmp_path, vectors).build_reason

    def test_a_manifest_cannot_name_files_elsewhere(self, vectors, tmp_path):
        folder = tmp_path / "index"
        opened("ivf", folder, vectors)
        (file,) = folder.glob("*.faiss")
        file.rename(tmp_path / file.name)
        text = (folder / "index.json").read_text()
        (folder / "index.json").write_text(text.replace(file.name, f"../{file.name}"))
        assert "beside it" in opened("ivf", folder, vectors).build_reason

    def test_another_kind_seed_or_dimension_is_another_index(self, vectors, tmp_path):
        opened("hnsw", tmp_path, vectors)
        assert "differs in kind" in opened("ivf", tmp_path, vectors).build_reason
        assert "differs in seed" in opened("ivf", tmp_path, vectors, seed=1).build_reason
        assert "differs in dim" in opened("ivf", tmp_path, np.ascontiguousarray(vectors[:, :6]), seed=1).build_reason
        assert opened("ivf", tmp_path, vectors, seed=1, fresh=True).build_reason == "asked for"
        assert len(list(tmp_path.iterdir())) == 3  # the manifest and two files: nothing old is left


def mutated(vectors, ids, draw, step):
    """Some products dropped, some changed, some added, all in another order."""
    g = np.random.default_rng([draw, step])
    kept = np.flatnonzero(g.random(len(ids)) < g.choice([0.5, 0.9, 1.0]))
    vectors, ids = vectors[kept].copy(), [ids[row] for row in kept]
    for row in np.flatnonzero(g.random(len(ids)) < g.choice([0.0, 0.2])):
        vectors[row] = clustered(1, vectors.shape[1], seed=int(g.integers(10_000)))[0]
    new = int(g.choice([0, 1, 40]))
    vectors = np.concatenate([vectors, clustered(new, vectors.shape[1], seed=int(g.integers(10_000)))])
    ids = [*ids, *(f"new{step}-{row}" for row in range(new))]
    order = g.permutation(len(ids)) if g.random() < 0.5 else np.arange(len(ids))
    return vectors[order], [ids[row] for row in order]


class TestUpdates:
    @pytest.mark.parametrize("kind", APPROXIMATE)
    def test_what_was_done_is_said(self, kind, tmp_path):
        vectors = clustered(1000, 8, seed=2)
        ids = [f"p{row}" for row in range(1000)]
        opened(kind, tmp_path, vectors, ids)
        vectors[5] = vectors[6]
        vectors = np.concatenate([vectors[3:], clustered(12, 8, seed=3)])
        ids = [*ids[3:], *(f"q{row}" for row in range(12))]
        found = opened(kind, tmp_path, vectors, ids)
        assert found.status == "updated: 12 added, 3 removed, 1 changed"
        assert found.build_reason is None and found.recall > 0.95
        assert found.index.search(vectors[-12:], 1)[1][:, 0].tolist() == list(range(997, 1009))
        again = opened(kind, tmp_path, vectors, ids)
        assert again.status == "unchanged" and again.recall == found.recall
        ids[7], ids[9] = ids[9], ids[7]
        vectors[[7, 9]] = vectors[[9, 7]]
        assert opened(kind, tmp_path, vectors, ids).status == "updated: another order"

    @pytest.mark.parametrize("kind", APPROXIMATE)
    @given(draw=st.integers(0, 10_000))
    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    def test_any_sequence_leaves_an_index_of_exactly_the_table(self, kind, draw, tmp_path_factory):
        folder = tmp_path_factory.mktemp("index")
        vectors, ids = clustered(300, 6, seed=draw), [f"p{row}" for row in range(300)]
        opened(kind, folder, vectors, ids, **LOOSE)
        for step in range(4):
            vectors, ids = mutated(vectors, ids, draw, step)
            found = opened(kind, folder, vectors, ids, **LOOSE)
            assert found.build_reason is None and len(found.index) == len(vectors)
            assert isinstance(found.index, FaissIndex)
            assert (found.index.removed_count > 0) <= (kind != "ivf")
            allow = np.random.default_rng(draw).random(len(vectors)) < 0.7
            for mask in (None, allow):
                # All that are asked for are there, none that is gone, and each with today's score.
                scores, rows = found.index.search(vectors[:12], len(vectors), allow=mask)
                counting = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
                assert (np.sort(rows, axis=1)[:, -len(counting) :] == counting).all()
                for at, best in enumerate(oracles.nearest(vectors, vectors[:2], 5, mask)):
                    np.testing.assert_allclose(scores[at, :5], [score for score, _ in best], atol=1e-6)
            truth = FlatIndex(vectors).search(vectors, 10)[0]
            hits = found.index.search(vectors, 10)[0] >= truth[:, -1:]
            assert hits.mean() > 0.9 or found.index.removed_count > len(
                vectors
            )  # no bound was set: most places are empty

    @pytest.mark.parametrize("kind", APPROXIMATE)
    def test_many_changes_rebuild_it_also_in_small_steps(self, kind, tmp_path):
        vectors, ids = clustered(1000, 8, seed=4), [f"p{row}" for row in range(1000)]
        opened(kind, tmp_path, vectors, ids, max_changed=0.05)
        said = []
        for step in range(4):
            vectors[step * 20 : step * 20 + 20] = clustered(20, 8, seed=50 + step)
            said.append(opened(kind, tmp_path, vectors, ids, max_changed=0.05).status)
        assert said[:2] == ["updated: 20 changed"] * 2 and said[3] == "updated: 20 changed"
        assert said[2].startswith("rebuilt: 6.0% of the products were added, removed or changed")

    def test_many_places_without_a_product_rebuild_what_cannot_give_them_back(self, tmp_path):
        vectors, ids = clustered(1000, 8, seed=5), [f"p{row}" for row in range(1000)]
        for kind in APPROXIMATE:
            opened(kind, tmp_path / kind, vectors, ids)
            said = opened(kind, tmp_path / kind, vectors[150:], ids[150:]).status
            assert said.startswith(
                "updated: 150 removed" if kind == "ivf" else "rebuilt: 150 of its slots hold removed"
            )

    def test_lost_recall_rebuilds_it(self, tmp_path, monkeypatch):
        vectors, ids = clustered(2000, 16, seed=6), [f"p{row}" for row in range(2000)]
        opened("ivf", tmp_path, vectors, ids)
        content = (tmp_path / "index.json").read_text()
        (tmp_path / "index.json").write_text(content.replace('"effort": ', '"effort": 1, "was": '))
        vectors[0] = vectors[1]
        found = opened("ivf", tmp_path, vectors, ids)
        assert "its recall fell from" in found.build_reason and found.recall > 0.97

    def test_a_vector_that_is_no_number_is_refused(self, tmp_path):
        vectors, ids = clustered(200, 8, seed=7), [f"p{row}" for row in range(200)]
        opened("ivf", tmp_path, vectors, ids)
        before = sorted(path.name for path in tmp_path.iterdir())
        vectors[9, 3] = np.nan
        with pytest.raises(UsageError, match="row 9 is not a number"):
            opened("ivf", tmp_path, vectors, ids)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    @pytest.mark.parametrize("kind", APPROXIMATE)
    def test_from_nothing_to_some_and_back(self, kind, tmp_path):
        some = clustered(3, 4, seed=8)
        for n in (0, 1, 3, 0, 2):
            found = opened(kind, tmp_path, some[:n], **LOOSE)
            assert len(found.index) == n
            assert (np.sort(found.index.search(some, 3)[1], axis=1)[:, 3 - n :] == np.arange(n)).all()


def test_digests_tell_rows_apart():
    vectors = clustered(5000, 24, seed=0)
    own = digests.row_hashes(vectors)
    assert own.dtype == np.uint64 and len(set(own.tolist())) == 5000
    g = np.random.default_rng(0)
    for _ in range(200):
        row, column, bit = g.integers(5000), g.integers(24), g.integers(32)
        other = vectors.copy()[row : row + 1]
        other.view(np.uint32)[0, column] ^= np.uint32(1 << int(bit))
        assert digests.row_hashes(other)[0] != own[row]
    assert (digests.row_hashes(np.asfortranarray(vectors)) == own).all()
    states = {digests.table_hash(ids, own[:2]) for ids in (["a", "bc"], ["ab", "c"], ["abc", ""], ["bc", "a"])}
    assert len(states) == 4
