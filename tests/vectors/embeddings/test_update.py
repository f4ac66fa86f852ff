from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import DataContractError, ModelFolderError
from recsys.vectors.embeddings import update as build_room
from recsys.vectors.embeddings.table import EmbeddingTable
from recsys.vectors.embeddings.update import update_embeddings
from tests.vectors.shops import StubModel, catalogue

TITLES = ["red boots", "blue boots", "green scarf", None, "hat"]


def test_a_second_build_encodes_nothing_and_writes_nothing(tmp_path):
    shop = catalogue({"title": TITLES})
    first = update_embeddings(shop, StubModel(), folder=tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    model = StubModel()
    second = update_embeddings(shop, model, folder=tmp_path)
    assert (first.encoded_count, second.encoded_count, model.encoded) == (5, 0, [])
    assert second.table.vectors.tobytes() == first.table.vectors.tobytes()
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("column", "value"), [("title", "red boots, new"), ("image_hash", "abc")])
def test_one_changed_product_is_encoded_alone(column, value, tmp_path):
    shop = catalogue({"title": TITLES, "price": [1.0] * 5})
    old = update_embeddings(shop, StubModel(), folder=tmp_path).table
    changed = catalogue({"title": TITLES, "image_hash": [None] * 5, "price": [2.0] * 5} | {
        column: [value, *shop.frame[column].to_list()[1:]]
    })  # fmt: skip
    model = StubModel()  # does not look at the price
    built = update_embeddings(changed, model, folder=tmp_path)
    assert (built.encoded_count, model.encoded) == (1, ["p0"])
    assert built.table.vectors[1:].tobytes() == old.vectors[1:].tobytes()
    assert built.table.vectors[0].tobytes() == StubModel().encode(changed, np.array([0])).tobytes()


def test_another_model_or_other_columns_encode_everything(tmp_path):
    shop = catalogue({"title": TITLES, "brand": ["x"] * 5})
    update_embeddings(shop, StubModel(), folder=tmp_path)
    assert update_embeddings(shop, StubModel("v2", dim=4), folder=tmp_path).encoded_count == 5
    assert update_embeddings(shop, StubModel("v2", ["title", "brand"], 4), folder=tmp_path).encoded_count == 5
    assert (
        update_embeddings(shop, StubModel("v2", ["title", "brand"], 4), folder=tmp_path, full=True).encoded_count == 5
    )
    assert update_embeddings(shop, StubModel("v2", ["title", "brand"], 4), folder=tmp_path).encoded_count == 0


@given(nights=st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["x", "y", None])), max_size=6))
def test_rows_follow_the_catalogue_as_products_come_go_and_change(nights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    known: dict[str, str | None] = {}
    for night in nights:
        names = sorted(night)
        shop = catalogue({"product_id": names, "title": [night[name] for name in names]})
        model = StubModel()
        built = update_embeddings(shop, model, folder=folder)
        assert sorted(model.encoded) == [name for name in names if name not in known or known[name] != night[name]]
        assert built.removed_count == len(set(known) - set(names))
        assert built.table.ids.texts == shop.ids.texts
        fresh = StubModel().encode(shop, np.arange(len(shop)))
        assert built.table.vectors.tobytes() == fresh.tobytes()
        assert not len(built.table.stale_rows(shop, model))
        known = night


def test_progress_is_told_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(build_room, "_CHUNK", 2)
    told = []
    update_embeddings(
        catalogue({"title": TITLES}),
        StubModel(),
        folder=tmp_path,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_a_vector_that_is_not_a_number_is_refused_and_nothing_is_written(tmp_path):
    class Broken(StubModel):
        def encode(self, catalogue, rows):
            out = super().encode(catalogue, rows)
            out[rows == 3] = np.nan
            return out

    with pytest.raises(DataContractError, match="'p3'"):
        update_embeddings(catalogue({"title": TITLES}), Broken(), folder=tmp_path)
    assert not EmbeddingTable.exists(tmp_path)


def test_a_damaged_table_is_made_again_and_said_so(tmp_path, caplog):
    shop = catalogue({"title": TITLES})
    update_embeddings(shop, StubModel(), folder=tmp_path)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelFolderError, match="altered"):
        EmbeddingTable.load(tmp_path)
    assert update_embeddings(shop, StubModel(), folder=tmp_path).encoded_count == 5
    assert "encoding every product" in caplog.text
    assert update_embeddings(shop, StubModel(), folder=tmp_path).encoded_count == 0


class TestTable:
    def test_saved_and_loaded_it_is_the_same(self, tmp_path):
        names = ["a", "é", "0007", "红"]
        shop = catalogue({"product_id": names, "title": TITLES[:4]})
        table = update_embeddings(shop, StubModel(), folder=tmp_path).table
        assert table.ids.texts == tuple(names) and table.model_id == "v1" and table.dim == 8
        assert isinstance(table.vectors, np.memmap) and not table.vectors.flags.writeable
        assert table.hashes.tolist() == shop.hashes(["title", "image_hash"]).tolist()

    def test_the_same_table_is_the_same_bytes(self, tmp_path):
        shop = catalogue({"title": TITLES})
        for name in ("one", "two"):
            update_embeddings(shop, StubModel(), folder=tmp_path / name)
        one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
        assert one == two and len(one) == 3

    def test_none_there(self, tmp_path):
        with pytest.raises(ModelFolderError, match="run 'recsys embed'"):
            EmbeddingTable.load(tmp_path)

    def test_a_missing_file_is_named(self, tmp_path):
        update_embeddings(catalogue({"title": TITLES}), StubModel(), folder=tmp_path)
        (file,) = tmp_path.glob("*.npy")
        file.unlink()
        with pytest.raises(ModelFolderError, match=file.name):
            EmbeddingTable.load(tmp_path)

    def test_a_crash_while_saving_leaves_the_old_table(self, tmp_path, monkeypatch):
        shop = catalogue({"title": TITLES})
        old = update_embeddings(shop, StubModel(), folder=tmp_path).table
        from pathlib import Path

        replace = Path.replace
        for survive in range(3):  # vectors, products, manifest
            left = [survive]

            def dying(self, target, left=left):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return replace(self, target)

            with monkeypatch.context() as patched:
                patched.setattr(Path, "replace", dying)
                with pytest.raises(KeyboardInterrupt):
                    update_embeddings(shop, StubModel("v2"), folder=tmp_path)
            again = EmbeddingTable.load(tmp_path)
            assert again.model_id == "v1" and again.vectors.tobytes() == old.vectors.tobytes()
        update_embeddings(shop, StubModel("v2"), folder=tmp_path)
        named = {entry["file"] for entry in json.loads((tmp_path / "embeddings.json").read_text())["files"].values()}
        left_over = {path.name for path in tmp_path.iterdir()} - named - {"embeddings.json"}
        assert EmbeddingTable.load(tmp_path).model_id == "v2" and not left_over

    @pytest.mark.parametrize(
        ("n", "vectors", "hashes", "message"),
        [
            (2, np.zeros((3, 4), np.float32), np.zeros(2, np.uint64), "2 ids, 3 vectors"),
            (2, np.zeros((2, 4), np.float64), np.zeros(2, np.uint64), "float32"),
            (2, np.zeros(2, np.float32), np.zeros(2, np.uint64), r"\(n, d\)"),
            (2, np.zeros((2, 4), np.float32), np.zeros(2, np.int64), "uint64"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, n, vectors, hashes, message):
        from recsys.data.id_map import IdMap

        with pytest.raises(DataContractError, match=message):
            EmbeddingTable(IdMap(map(str, range(n))), vectors, hashes, "v1")
