"""A model folder speaks for its model, and is not believed when it is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.encoder import serialization as checkpoint
from recsys.encoder.lazy_model import open_lazy
from recsys.encoder.model import Model
from recsys.errors import ModelFolderError
from tests.encoder import shops


@pytest.fixture(scope="module")
def saved(products: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(products, tmp_path_factory.mktemp("models") / "encoder")


def test_what_the_folder_says_is_what_the_model_is(saved: Path, products: Model) -> None:
    loads: list[Model] = []

    def load() -> Model:
        loads.append(checkpoint.load(saved))
        return loads[-1]

    resting = open_lazy(saved, load)
    assert resting is not None
    assert (resting.content_version, list(resting.columns)) == (products.content_version, products.columns)
    assert not loads
    rows = np.arange(5)
    np.testing.assert_array_equal(resting.encode(shops.catalogue(), rows), products.encode(shops.catalogue(), rows))
    assert len(loads) == 1


def test_it_is_told_without_torch(saved: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom recsys.encoder.lazy_model import open_lazy\n"
        "print(open_lazy(Path(sys.argv[1]), lambda: 1 / 0).content_version)\n"
        "print(*({'torch', 'tokenizers', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    version, loaded = done.stdout.splitlines()
    assert len(version) == 12 and loaded == ""


@pytest.mark.parametrize("name", ["model.safetensors", "words.json", "README.md"])
def test_damage_is_told_before_anything_is_believed(saved: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    held = bytearray((copy / name).read_bytes())
    held[len(held) // 2] ^= 1
    (copy / name).write_bytes(held)
    with pytest.raises(ModelFolderError, match=f"{name}: altered"):
        open_lazy(copy, lambda: pytest.fail("loaded"))
    (copy / name).unlink()
    with pytest.raises(ModelFolderError, match="not a complete model folder"):
        open_lazy(copy, lambda: pytest.fail("loaded"))


def told_otherwise(saved: Path, copy: Path, **facts: object) -> Path:
    """A copy of the folder whose manifest says something else."""
    shutil.copytree(saved, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **facts}))
    return copy


@pytest.mark.parametrize(("key", "value"), [("columns", None), ("columns", "title"), ("content_version", 5)])
def test_a_manifest_that_does_not_say_leaves_it_to_the_model(
    saved: Path, tmp_path: Path, key: str, value: object
) -> None:
    copy = told_otherwise(saved, tmp_path / "copy", **{key: value})
    assert open_lazy(copy, lambda: pytest.fail("loaded")) is None


@pytest.mark.parametrize(("key", "value"), [("columns", ["title"]), ("content_version", "000000000000")])
def test_a_manifest_that_speaks_of_another_model_is_refused(
    saved: Path, tmp_path: Path, key: str, value: object
) -> None:
    copy = told_otherwise(saved, tmp_path / "copy", **{key: value})
    resting = open_lazy(copy, lambda: checkpoint.load(copy))
    assert resting is not None
    with pytest.raises(ModelFolderError, match="the manifest names version"):
        resting.encode(shops.catalogue(), np.arange(2))
