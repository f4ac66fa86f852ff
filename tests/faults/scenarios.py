"""Everything of the program that writes something that must be whole, in two versions, each told by reading it.

In: a place (a URL, or a folder as text) and a version. Out: that version written there; or which version is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from PIL import Image

from recsys.artifacts import model_folder as models
from recsys.config import ImageSettings
from recsys.data.id_map import IdMap
from recsys.data.image_store import ImageStore
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.pipeline.train_state import TrainingState
from recsys.store.store import Store
from recsys.vectors.embeddings.table import EmbeddingTable
from tests.faults import night as nights


def _said(step: Any) -> None:
    return


@dataclass(frozen=True)
class Scenario:
    """A piece of work.

    Attributes:
        act: write a version.
        read: which version is there, whole.
        store: works on a store, else on a folder.
        before: versions that stand there already, written by `night` in a store.
        new: the version whose writing is disturbed.
    """

    act: Callable[..., None]
    read: Callable[[str], object]
    store: bool = False
    before: tuple[str, ...] = ("ccc", "a")
    new: str = "bb"

    @property
    def what(self) -> str:
        """As a child process is told."""
        return f"{__name__}:{self.act.__name__}"


def night(url: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    with Store.open(url) as store:
        nights.night(store, version, say=say)


def lists(url: str) -> object:
    with Store.open(url, lease=False) as store:
        if not sa.inspect(store.engine).has_table("runs"):
            return None  # the fault came before there were tables
        found = set(store.recommendations()["reason"].to_list())
    assert len(found) <= 1
    return found.pop() if found else None


def rollback(url: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    """Go back until the version is read."""
    with Store.open(url) as store:
        while lists(url) != version:
            say(store.rollback())


def model(folder: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    """A model folder; version 'a2' is the weights of 'a', of which something else is told."""
    told = {"metrics.json": version.encode(), "model.safetensors": version.rstrip("2").encode() * 10_000}
    files = {name: {"sha256": sha256(held).hexdigest(), "size": len(held)} for name, held in told.items()}
    models.write_version(
        Path(folder) / "encoder", version.rstrip("2"), {**told, "manifest.json": json.dumps({"files": files}).encode()}
    )


def model_there(folder: str) -> object:
    files = models.read_verified_files(models.current_version(Path(folder), "encoder"), {"model.safetensors"})
    return files["model.safetensors"].decode()[: len(files["model.safetensors"]) // 10_000]


def told(version: str) -> str:
    """A version as it is read."""
    return version.rstrip("2")


def vectors(folder: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    values = np.random.default_rng(len(version)).normal(size=(50, 4)).astype(np.float32)
    ids = IdMap(f"{version}{row}" for row in range(50))
    EmbeddingTable(ids, values, np.arange(50, dtype=np.uint64), version).save(Path(folder))


def vectors_there(folder: str) -> object:
    table = EmbeddingTable.load(Path(folder))
    expected = np.random.default_rng(len(table.model_id)).normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(table.vectors, expected) and table.ids.texts[0] == f"{table.model_id}0"
    named = {entry["file"] for entry in json.loads((Path(folder) / "embeddings.json").read_text())["files"].values()}
    assert named <= {path.name for path in Path(folder).iterdir()}
    return table.model_id


def vectors_tidy(folder: Path) -> None:
    """Assert that no part is there that the manifest does not name."""
    named = {entry["file"] for entry in json.loads((folder / "embeddings.json").read_text())["files"].values()}
    assert {path.name for path in folder.iterdir()} == {*named, "embeddings.json"}


def _snapshot(folder: str) -> TrainingCheckpoint:
    return TrainingCheckpoint(Path(folder) / "products.safetensors", {"stage": "products"})


def snapshot(folder: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(layer.weight, len(version))
    _snapshot(folder).write(layer, None, len(version), scores=[0.5])


def snapshot_there(folder: str) -> object:
    layer = torch.nn.Linear(2, 2)
    step, _ = _snapshot(folder).read(layer, None)
    assert bool((layer.weight == step).all())
    return "abbccc"[step // 2 : step // 2 + step] if step else None


def pictures(folder: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    """As many pictures as the version has letters; all of them of the version's own colour."""
    album = Path(folder) / "album"
    album.mkdir(exist_ok=True)
    names = {f"p{number}": f"p{number}.png" for number in range(len(version))}
    for name in names.values():
        Image.new("RGB", (8, 8), (50 * len(version), 0, 0)).save(album / name)
    ImageStore(Path(folder) / "store", ImageSettings(size=16)).add(album, names)


def pictures_there(folder: str) -> object:
    store = ImageStore(Path(folder) / "store", ImageSettings(size=16))
    ids = IdMap(f"p{number}" for number in range(len(store)))
    held = store.images(ids)
    reds = {int(held.pixels[row, 0].max()) for row in held.rows.tolist()}
    assert reds <= {50 * len(ids)}, f"{len(ids)} pictures of {reds}"
    return "abbccc"[len(ids) // 2 : len(ids) // 2 + len(ids)] if len(ids) else None


def note(folder: str, version: str, *, say: Callable[[Any], None] = _said) -> None:
    TrainingState(version, "r", "h", "f", ("title",), 1, 2).save(Path(folder))


def note_there(folder: str) -> object:
    known = TrainingState.load(Path(folder))
    return known.encoder if known else None


SCENARIOS = {
    "first night": Scenario(night, lists, store=True, before=()),
    "night": Scenario(night, lists, store=True),
    "rollback": Scenario(rollback, lists, store=True, before=("bb", "a")),
    "model": Scenario(model, model_there),
    "model again": Scenario(model, model_there, before=("a",), new="a2"),
    "vectors": Scenario(vectors, vectors_there),
    "snapshot": Scenario(snapshot, snapshot_there),
    "pictures": Scenario(pictures, pictures_there, before=("a",)),
    "note": Scenario(note, note_there),
}
