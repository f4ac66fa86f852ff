from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys.data.id_map import IdMap
from recsys.errors import ModelFolderError
from recsys.vectors.clustering.files import ClusterFiles, map_frame


@pytest.fixture
def atlas():
    groups = pl.DataFrame(
        {"cluster_id": [0], "label": ["hats"], "size": [2], "terms": [["hat"]], "exemplars": [["b"]], "parent": [0],
         "parent_label": ["hats"]}
    )  # fmt: skip
    places = map_frame(IdMap(["b", "a"]), np.array([[1, 2], [3, 4]], np.float32), np.array([0, -1]))
    return ClusterFiles(groups, places, {"map": "pca"})


def test_it_comes_back_and_lies_under_plain_names(atlas, tmp_path):
    atlas.save(tmp_path / "clusters")
    atlas.save(tmp_path / "clusters")  # again, over what is there
    names = sorted(path.name for path in (tmp_path / "clusters").iterdir())
    assert names == ["clusters.json", "groups.parquet", "map.parquet"]
    places = pl.read_parquet(tmp_path / "clusters" / "map.parquet")
    assert places.rows() == [("a", 3.0, 4.0, -1), ("b", 1.0, 2.0, 0)]
    assert places.schema == {"product_id": pl.String, "x": pl.Float32, "y": pl.Float32, "cluster_id": pl.Int64}
    held = ClusterFiles.load(tmp_path / "clusters")
    assert held.groups.equals(atlas.groups) and held.metadata == {"map": "pca"}
    expected = np.array([[np.nan, np.nan], [1, 2]])
    np.testing.assert_array_equal(held.positions(IdMap(["new", "b"])), expected)


def test_without_a_map_the_old_one_goes(atlas, tmp_path):
    atlas.save(tmp_path)
    ClusterFiles(atlas.groups).save(tmp_path)
    assert not (tmp_path / "map.parquet").exists() and ClusterFiles.load(tmp_path).positions(IdMap(["a"])) is None


def test_files_that_do_not_belong_together_are_refused(atlas, tmp_path):
    with pytest.raises(FileNotFoundError):
        ClusterFiles.load(tmp_path)
    atlas.save(tmp_path)
    (tmp_path / "map.parquet").write_bytes(b"other")
    with pytest.raises(ModelFolderError, match="altered since it was written; run 'recsys cluster'"):
        ClusterFiles.load(tmp_path)
    (tmp_path / "map.parquet").unlink()
    with pytest.raises(ModelFolderError, match="missing"):
        ClusterFiles.load(tmp_path)
    for text in ("{", "{}", "[]", '{"facts": {}, "files": {"map.parquet": 1}}'):
        (tmp_path / "clusters.json").write_text(text)
        with pytest.raises(ModelFolderError, match="no manifest|not a manifest"):
            ClusterFiles.load(tmp_path)
