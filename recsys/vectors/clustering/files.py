"""Files of clusters and map for other programs: `map.parquet` and `groups.parquet`.

In: frames. Out: the files under these names, with the sha256 of each in `clusters.json`, which is replaced last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from recsys.artifacts import atomic
from recsys.artifacts.file_set import file_sha256, verify_file
from recsys.data import schema
from recsys.data.id_map import IdMap
from recsys.errors import ModelFolderError
from recsys.types import FloatArray

MANIFEST: Final = "clusters.json"
_MAP, _GROUPS = "map.parquet", "groups.parquet"
_TEMP_PREFIX: Final = ".clusters-"


@dataclass(frozen=True)
class ClusterFiles:
    """Clusters and map of a run.

    Attributes:
        groups: cluster_id, label, size, terms (list), exemplars (list of product ids), parent, parent_label; by id.
        map_positions: product_id, x, y, cluster_id; by id; None where there is no map.
        metadata: metadata: run_id, method, map.
    """

    groups: pl.DataFrame = field(repr=False)
    map_positions: pl.DataFrame | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the files. A crash between them leaves a manifest that does not match, which `load` detects."""
        folder.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale_temp_files(folder, _TEMP_PREFIX)
        frames = {_GROUPS: self.groups} | ({} if self.map_positions is None else {_MAP: self.map_positions})
        temp_files = {name: folder / f"{_TEMP_PREFIX}{os.getpid()}-{name}" for name in (*frames, MANIFEST)}
        files = {}
        for name, frame in frames.items():
            frame.write_parquet(temp_files[name])
            atomic.fsync_path(temp_files[name])
            files[name] = {"sha256": file_sha256(temp_files[name]), "bytes": temp_files[name].stat().st_size}
        text = json.dumps({"facts": dict(self.metadata), "files": files}, indent=1, sort_keys=True)
        atomic.write_durable(temp_files[MANIFEST], text.encode())
        for name, temp_file in temp_files.items():
            temp_file.replace(folder / name)
        if self.map_positions is None:
            (folder / _MAP).unlink(missing_ok=True)
        atomic.fsync_path(folder)

    @staticmethod
    def load(folder: Path) -> ClusterFiles:
        """Read the files.

        Raises:
            FileNotFoundError: nothing was written yet.
            ModelFolderError: a file differs from the one that was written.
        """
        manifest = folder / MANIFEST
        text = manifest.read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            facts, files = (
                dict(content["facts"]),
                {str(name): entry["sha256"] for name, entry in content["files"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFolderError(f"{manifest} is not a manifest ({error}); run 'recsys cluster'") from error
        frames = {}
        for name in (_GROUPS, *([_MAP] if _MAP in files else [])):
            path = folder / name
            if not path.is_file():
                raise ModelFolderError(f"{path}: missing; run 'recsys cluster'")
            verify_file(path, sha256=files.get(name, ""), advice="run 'recsys cluster'")
            frames[name] = pl.read_parquet(path)
        return ClusterFiles(frames[_GROUPS], frames.get(_MAP), facts)

    def positions(self, ids: IdMap) -> FloatArray | None:
        """Return map positions in the order of `ids`: (n, 2) float32, NaN = none; None without a map."""
        if self.map_positions is None:
            return None
        rows = ids.rows(self.map_positions[schema.PRODUCT_ID].to_list())
        out = np.full((len(ids), 2), np.nan, np.float32)
        out[rows[rows >= 0]] = self.map_positions.select("x", "y").to_numpy()[rows >= 0]
        return out


def map_frame(ids: IdMap, positions: FloatArray, cluster_id: Any) -> pl.DataFrame:
    """Return the frame of a map: product_id, x, y (float32), cluster_id, by product id."""
    frame = pl.DataFrame(
        {
            schema.PRODUCT_ID: pl.Series(list(ids.texts), dtype=pl.String),
            "x": pl.Series(positions[:, 0], dtype=pl.Float32),
            "y": pl.Series(positions[:, 1], dtype=pl.Float32),
            "cluster_id": pl.Series(cluster_id, dtype=pl.Int64),
        }
    )
    return frame.sort(schema.PRODUCT_ID)
