import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from recsys.artifacts.model_folder import current_version
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.errors import ModelFolderError
from tests.encoder import shops


@pytest.fixture(scope="module")
def saved(both: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(both, tmp_path_factory.mktemp("models") / "encoder", data_fingerprint="f00", seed=7)


def test_a_saved_model_gives_the_same_bits(saved: Path, both: Model) -> None:
    again = checkpoint.load(current_version(saved.parent.parent, "encoder"))
    catalogue, rows = shops.catalogue(), np.arange(48)
    content = both.encode(catalogue, rows)
    np.testing.assert_array_equal(again.encode(catalogue, rows), content)
    np.testing.assert_array_equal(again.encode_text(["红 boots"]), both.encode_text(["红 boots"]))
    items = both.item_vectors(content, catalogue.ids)
    np.testing.assert_array_equal(again.item_vectors(content, catalogue.ids), items)
    histories = shops.interactions().histories(np.arange(20), 6)
    np.testing.assert_array_equal(
        again.user_vectors(histories, items, now=0), both.user_vectors(histories, items, now=0)
    )
    assert (again.version, again.content_version, again.columns) == (both.version, both.content_version, both.columns)
    assert again.metrics == both.metrics


def test_the_folder_holds_what_it_promises(saved: Path, both: Model) -> None:
    assert saved.name == both.version
    assert (saved.parent / "CURRENT").read_text() == f"{both.version}\n"
    assert sorted(path.name for path in saved.parent.iterdir()) == sorted(["CURRENT", both.version])
    manifest = json.loads((saved / "manifest.json").read_text())
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "attributes.json",
        "metrics.json",
        "README.md",
    } <= manifest["files"].keys()
    assert manifest["data_fingerprint"] == "f00"
    assert manifest["seed"] == 7
    assert manifest["files"]["model.safetensors"]["sha256"].startswith(both.version)
    assert both.version in (saved / "README.md").read_text()


def test_training_users_changes_the_version_but_not_that_of_the_product_vectors(both: Model, products: Model) -> None:
    assert both.version != products.version
    assert both.content_version == products.content_version


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "words.json", "attributes.json", "products.json"]
)
def test_an_altered_or_missing_file_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    held = bytearray((folder / name).read_bytes())
    held[len(held) // 2] ^= 1
    (folder / name).write_bytes(held)
    with pytest.raises(ModelFolderError, match=f"{name}: altered"):
        checkpoint.load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match="not a complete model folder"):
        checkpoint.load(folder)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {}}', '{"files": {"../../x": {}}}', '{"files": []}'])
def test_a_broken_manifest_is_refused(saved: Path, tmp_path: Path, manifest: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(ModelFolderError):
        checkpoint.load(folder)


def test_no_model_and_a_pointer_out_of_the_folder_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="recsys train"):
        current_version(tmp_path, "encoder")
    (tmp_path / "encoder").mkdir()
    for pointer in ("", "gone", "../../etc", str(saved)):
        (tmp_path / "encoder" / "CURRENT").write_text(pointer)
        with pytest.raises(ModelFolderError, match="does not exist"):
            current_version(tmp_path, "encoder")


def test_a_model_saved_twice_is_there_once_and_a_damaged_one_is_mended(both: Model, tmp_path: Path) -> None:
    first = checkpoint.save(both, tmp_path)
    (first / "words.json").write_text("{}")
    assert checkpoint.save(both, tmp_path) == first
    assert checkpoint.load(first).version == both.version
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["CURRENT", both.version])
