"""Ranker folders: the same blend comes back; an altered or incomplete folder is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.encoder.checkpoint import newest
from recsys.errors import ModelFolderError
from recsys.pipeline import rankers
from recsys.recommend.rank import equal


def saved(folder: Path) -> Path:
    return rankers.save(equal(["popular", "content"]), folder / "ranker", encoder="e1", data_fingerprint="f", seed=0)


def test_a_blend_comes_back_and_is_the_current_one(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert newest(tmp_path, "ranker") == folder
    blend = rankers.load(folder)
    assert blend.sources == ("popular", "content")
    assert np.array_equal(blend.weight, equal(["popular", "content"]).weight)


def test_the_same_blend_has_the_same_version_and_leaves_one_folder(tmp_path: Path) -> None:
    assert saved(tmp_path) == saved(tmp_path)
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == sorted(["CURRENT", saved(tmp_path).name])
    other = rankers.save(equal(["popular"]), tmp_path / "ranker", encoder="e1", data_fingerprint="f", seed=0)
    assert newest(tmp_path, "ranker") == other != saved(tmp_path)


@pytest.mark.parametrize("damage", ["alter", "cut", "lose blend", "lose manifest", "empty manifest"])
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path)
    blend, manifest = folder / "blend.json", folder / "manifest.json"
    if damage == "alter":
        blend.write_text(blend.read_text().replace("0.2", "0.3"))
    elif damage == "cut":
        blend.write_bytes(blend.read_bytes()[:-5])
    elif damage == "empty manifest":
        manifest.write_text("{}")
    else:
        (blend if damage == "lose blend" else manifest).unlink()
    with pytest.raises(ModelFolderError, match="recsys train ranker"):
        rankers.load(folder)
