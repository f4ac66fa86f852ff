"""One byte a number: nearly the same vectors, exactly the same when they are coded again, a quarter of the disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.errors import ModelFolderError
from recsys.vectors.embeddings import quantization as codes
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.embeddings.update import update_embeddings
from recsys.vectors.index import build as index
from tests.vectors.shops import StubModel, catalogue

TITLES = ["red boots", "blue boots", "green scarf", None, "hat"]


def unit(vectors):
    """Vectors (n, d) at length 1."""
    return (vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)


@given(
    vectors=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 40)),
        elements=st.floats(-1, 1, width=32).map(lambda x: np.float32(0) if abs(x) < 1e-3 else x),
    )
)
def test_what_comes_back_is_near_and_stays_as_it_is(vectors):
    held = np.linalg.norm(vectors, axis=1) > 0
    vectors[held] = unit(vectors[held])
    numbers, scales = codes.quantize_int8(vectors)
    again = codes.dequantize_int8(numbers, scales)
    assert numbers.dtype == np.int8 and numbers.min() >= -127 and again.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(again[held], axis=1), 1, atol=1e-6)
    assert not again[~held].any() and not scales[~held].any()
    # A code is at most half a step off, a step being 1/127 of the largest number: that bounds the angle.
    step = np.abs(vectors).max(axis=1) / 127
    sine = np.minimum(1, step / 2 * np.sqrt(vectors.shape[1]))
    assert ((vectors * again).sum(axis=1)[held] >= np.sqrt(1 - sine[held] ** 2) - 1e-6).all()
    for one, other in zip(codes.quantize_int8(again), (numbers, scales), strict=True):
        assert one.tobytes() == other.tobytes()
    assert np.array_equal(codes.quantize_int8(-vectors)[0], -numbers)


@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([2, 8, 32, 128, 768]))
def test_random_directions_keep_their_direction(seed, dim):
    vectors = unit(np.random.default_rng(seed).normal(size=(64, dim)))
    assert (vectors * codes.dequantize_int8(*codes.quantize_int8(vectors))).sum(axis=1).min() >= 0.999


def test_many_vectors_are_coded_in_parts_as_at_once(monkeypatch):
    vectors = unit(np.random.default_rng(0).normal(size=(50, 16)))
    numbers, scales = codes.quantize_int8(vectors)
    whole = codes.dequantize_int8(numbers, scales)
    monkeypatch.setattr(codes, "_CHUNK", 7)
    assert codes.quantize_int8(vectors)[0].tobytes() == numbers.tobytes()
    assert codes.dequantize_int8(numbers, scales).tobytes() == whole.tobytes()


def test_neighbours_are_nearly_those_of_float32():
    g = np.random.default_rng(0)
    centres = g.normal(size=(60, 128))
    vectors = unit(centres[g.integers(60, size=3000)] + 0.7 * g.normal(size=(3000, 128)))
    coded = codes.dequantize_int8(*codes.quantize_int8(vectors))
    _, true = index.build_index(vectors).search(vectors[:300], 11)
    _, found = index.build_index(coded).search(coded[:300], 11)
    # The first is the product itself.
    recall = np.mean([len(set(a[1:]) & set(b[1:])) / 10 for a, b in zip(true, found, strict=True)])
    assert recall > 0.95


class TestTable:
    def test_the_storage_is_a_fact_of_the_table(self, tmp_path):
        shop = catalogue({"title": TITLES * 40})
        made = {}
        for storage in ("float32", "int8"):
            made[storage] = update_embeddings(shop, StubModel(dim=32), folder=tmp_path / storage, storage=storage).table
            assert made[storage].storage == storage
            assert json.loads((tmp_path / storage / "embeddings.json").read_text())["facts"]["storage"] == storage
        plain, coded = made["float32"].vectors, made["int8"].vectors
        assert coded.dtype == np.float32 and not coded.flags.writeable
        assert (plain * coded).sum(axis=1).min() > 0.999
        sizes = {name: sum(file.stat().st_size for file in (tmp_path / name).glob("*.npy")) for name in made}
        assert sizes["int8"] < sizes["float32"] / 3.3  # 32 + 4 bytes a vector, not 128

    def test_another_storage_rewrites_the_table_and_encodes_nothing(self, tmp_path):
        shop = catalogue({"title": TITLES})
        first = update_embeddings(shop, StubModel(), folder=tmp_path).table
        model = StubModel()
        coded = update_embeddings(shop, model, folder=tmp_path, storage="int8")
        assert (coded.encoded_count, coded.removed_count, coded.is_rewritten) == (0, 0, True)
        np.testing.assert_allclose(coded.table.vectors, first.vectors, atol=0.01)
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        again = update_embeddings(shop, model, folder=tmp_path, storage="int8")
        assert not again.is_rewritten and before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        back = update_embeddings(shop, model, folder=tmp_path)
        assert back.is_rewritten and isinstance(back.table.vectors, np.memmap)
        assert back.table.vectors.tobytes() == coded.table.vectors.tobytes()  # rounded, until encoded again
        assert model.encoded == []
        assert (
            update_embeddings(shop, model, folder=tmp_path, full=True).table.vectors.tobytes()
            == first.vectors.tobytes()
        )

    def test_a_changed_product_leaves_the_codes_of_the_others(self, tmp_path):
        shop = catalogue({"title": TITLES})
        old = update_embeddings(shop, StubModel(), folder=tmp_path, storage="int8").table
        changed = catalogue({"title": ["new boots", *TITLES[1:]]})
        model = StubModel()
        new = update_embeddings(changed, model, folder=tmp_path, storage="int8").table
        assert model.encoded == ["p0"]
        assert new.vectors[1:].tobytes() == old.vectors[1:].tobytes()
        assert new.vectors[0].tobytes() != old.vectors[0].tobytes()

    def test_a_table_of_the_first_version_is_float32(self, tmp_path):
        first = update_embeddings(catalogue({"title": TITLES}), StubModel(), folder=tmp_path).table
        path = tmp_path / "embeddings.json"
        manifest = json.loads(path.read_text())
        del manifest["facts"]["storage"]
        path.write_text(json.dumps(manifest))
        table = EmbeddingTable.load(tmp_path)
        assert table.storage == "float32" and table.vectors.tobytes() == first.vectors.tobytes()

    @pytest.mark.parametrize("storage", ["int8", "int4"])
    def test_a_manifest_that_names_no_such_vectors_is_refused(self, tmp_path, storage):
        update_embeddings(catalogue({"title": TITLES}), StubModel(), folder=tmp_path)
        path = tmp_path / "embeddings.json"
        path.write_text(path.read_text().replace('"float32"', f'"{storage}"'))
        with pytest.raises(ModelFolderError, match=f"no {storage} vectors"):
            EmbeddingTable.load(tmp_path)
