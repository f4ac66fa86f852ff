"""`embed` of a shop that has not changed reads what it must and nothing else; what has changed is seen all the same."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys.config import DataSettings, EncoderSettings, load
from recsys.data import dataset
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.errors import ModelFolderError, NothingNewError
from recsys.pipeline import embed as space
from recsys.pipeline import index
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.init import init_project
from recsys.pipeline.project import Project
from recsys.vectors.embeddings.table import EmbeddingTable

N = 40
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with products, events, an untrained encoder and its vectors; copy it before changing it."""
    folder = tmp_path_factory.mktemp("space") / "shop"
    sizes = {"dim": 16, "width": 16, "heads": 2, "vocabulary": 300, "text_tokens": 8}
    init_project(folder, values={f"encoder.{name}": value for name, value in sizes.items()})
    products = pl.DataFrame(
        {
            "product_id": [f"p{row:02d}" for row in range(N)],
            "title": [f"{('red', 'blue', 'green')[row % 3]} {('boots', 'hat')[row % 2]}" for row in range(N)],
            "brand": [f"brand {row % 5}" for row in range(N)],
            "available": [None if row % 4 else True for row in range(N)],
            "attributes": [json.dumps({"colour": f"c{row % 3}", "size": row % 7}) for row in range(N)],
        }
    )
    events = pl.DataFrame(
        {
            "user_id": [f"u{row % 6}" for row in range(60)],
            "product_id": [f"p{row % 30:02d}" for row in range(60)],
            "occurred_at": [1_700_000_000 + row for row in range(60)],
        }
    )
    with Project(load(folder, env={})) as project:
        ingest(project, IngestRequest.from_options([], frames={"products": products, "events": events}))
        project.reload()
        torch.manual_seed(0)
        settings = EncoderSettings(**sizes)
        model = Model(
            product_encoder=ProductEncoder.fit(project.catalogue, settings), user_encoder=None, settings=settings
        )
        checkpoint.save(model, project.models_folder / "encoder")
        assert (
            space.embed_products(project).counts["encoded"] == 32
        )  # 30 were bought, of the others every fourth is available
    return folder


@pytest.fixture
def shop(embedded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded, tmp_path / "shop"))


def _embed(shop: Path, **flags: object) -> dict[str, object]:
    with Project(load(shop, flags=flags, env={})) as project:
        result = space.embed_products(project)
        assert not project.is_loaded("dataset")  # the log of events was not read
        return {**result.counts, "status": result.status, "loaded": project.is_loaded("model"), "notes": result.notes}


def _change(shop: Path, statement: str) -> None:
    with sqlite3.connect(shop / "recsys.db") as connection:
        connection.execute(statement)


def test_nothing_new_loads_no_torch(shop: Path) -> None:
    code = (
        "import sys\nfrom recsys.cli.app import main\n"
        "code = main(['embed', '-C', sys.argv[1], '--json'])\n"
        "print(*({'torch', 'alembic', 'faiss', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)))\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(shop)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    document, loaded = done.stdout.splitlines()
    assert json.loads(document)["status"] == "nothing_new" and json.loads(document)["counts"]["products"] == 32
    assert loaded == ""


def test_nothing_new_runs_no_model_and_writes_nothing(shop: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shop / "artifacts").rglob("*")}
    counts = _embed(shop)
    assert counts["status"] == "nothing_new" and counts["encoded"] == 0 and not counts["loaded"]
    assert {path: path.stat().st_mtime_ns for path in (shop / "artifacts").rglob("*")} == before
    with Project(load(shop, env={})) as project, pytest.raises(NothingNewError):
        space.embed_products(project, fail_if_noop=True)


@pytest.mark.parametrize(
    ("statement", "encoded", "removed"),
    [
        ("UPDATE products SET title = 'yellow scarf' WHERE product_id = 'p07'", 1, 0),
        ("""UPDATE products SET attributes = '{"colour": "c9"}' WHERE product_id = 'p07'""", 1, 0),
        ("UPDATE products SET available = 0", 8, 0),  # availability is known now: these belong
        ("DELETE FROM products WHERE product_id = 'p07'", 0, 1),
        ("UPDATE events SET product_id = 'p39' WHERE user_id = 'u1'", 1, 5),  # bought instead of five others
    ],
)
def test_what_changed_is_encoded_alone(shop: Path, statement: str, encoded: int, removed: int) -> None:
    old = EmbeddingTable.load(shop / "artifacts" / "embeddings")
    _change(shop, statement)
    counts = _embed(shop)
    assert (counts["encoded"], counts["removed"], counts["loaded"]) == (encoded, removed, encoded > 0)
    new = EmbeddingTable.load(shop / "artifacts" / "embeddings")
    same = [name for name in new.ids.texts if name in old.ids and name != "p07"]
    np.testing.assert_array_equal(new.vectors[new.ids.rows(same)], old.vectors[old.ids.rows(same)])
    with sqlite3.connect(shop / "recsys.db") as connection:
        stored = dict(connection.execute("SELECT product_id, vector FROM product_embeddings"))
    assert sorted(stored) == list(new.ids.texts)
    for name, vector in stored.items():
        np.testing.assert_array_equal(np.frombuffer(vector, "<f4"), new.vectors[new.ids.rows([name])[0]])
    assert _embed(shop)["status"] == "nothing_new"


def test_a_store_that_lost_vectors_gets_them_again(shop: Path) -> None:
    _change(shop, "DELETE FROM product_embeddings WHERE product_id < 'p05'")
    assert _embed(shop)["encoded"] == 0
    with sqlite3.connect(shop / "recsys.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM product_embeddings").fetchone() == (32,)


def test_a_damaged_model_is_told_although_nothing_is_stale(shop: Path) -> None:
    (weights,) = (shop / "artifacts" / "models").rglob("model.safetensors")
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(held)
    with pytest.raises(ModelFolderError, match="altered"):
        _embed(shop)


@pytest.mark.parametrize("kept", ["auto", "bought_or_pictured", "all"])
def test_the_catalogue_alone_is_that_of_the_dataset(embedded: Path, kept: str) -> None:
    with Project(load(embedded, env={}), writes=False) as project:
        settings = DataSettings(catalogue=kept)  # type: ignore[arg-type]
        alone = dataset.load_catalogue(project.store.engine, settings, image_store=project.images)
        whole = dataset.load(project.store.engine, settings, image_store=project.images).catalogue
    assert len(alone) == {"auto": 32, "bought_or_pictured": 30, "all": N}[kept]
    assert alone.ids.texts == whole.ids.texts and alone.frame.equals(whole.frame)
    assert alone.sellable.tolist() == whole.sellable.tolist()


def test_the_dataset_takes_the_place_of_products_read_alone(shop: Path) -> None:
    with Project(load(shop, env={})) as project:
        space.embed_products(project)
        _change(shop, "DELETE FROM products WHERE product_id = 'p07'")
        table = space.update_embeddings(project).table
        assert table.ids.texts == project.dataset.catalogue.ids.texts and "p07" not in table.ids
        assert project.catalogue is project.dataset.catalogue


def test_the_storage_changes_without_a_forward_pass(shop: Path) -> None:
    int8 = {"embeddings.storage": "int8"}
    with (
        Project(load(shop, flags=int8, env={}), writes=False) as project,
        pytest.raises(ModelFolderError, match="float32"),
    ):
        project.current_embeddings()
    counts = _embed(shop, **int8)
    assert (counts["status"], counts["encoded"], counts["loaded"]) == ("done", 0, False)
    assert counts["notes"] == ["the table is stored as int8 now"]
    assert _embed(shop, **int8)["status"] == "nothing_new"
    with Project(load(shop, flags=int8, env={}), writes=False) as project:
        assert project.current_embeddings().storage == "int8"
        assert (
            project.model_settings_hash() == Project(load(shop, env={}), writes=False).model_settings_hash()
        )  # no reason to train
        assert (
            project.recommendation_settings_hash()
            != Project(load(shop, env={}), writes=False).recommendation_settings_hash()
        )  # but lists are not gone on with


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "pq"])
def test_the_index_says_what_was_done(shop: Path, kind: str) -> None:
    def done(**more: bool) -> tuple[str, dict[str, object]]:
        with Project(load(shop, flags={"index.kind": kind}, env={})) as project:
            result = index.build_index(project, **more)
            assert len(index.open_current_index(project).index) == len(project.embeddings)
        (row,) = result.tables[0].records()
        assert row["kind"] == kind and row["products"] == result.counts["products"]
        assert result.counts["recall"] == 1 and 0 < row["median_ms"] <= row["p95_ms"] and row["queries_per_s"] > 0
        return str(row["done"]), dict(result.counts)

    assert done()[0] == "built: none was saved"
    assert done()[0] == "unchanged"
    _change(shop, "UPDATE products SET title = 'yellow scarf' WHERE product_id = 'p07'")
    said, counts = done()
    if kind == "flat":
        assert said == "rebuilt: the vectors changed since they were measured"
    else:
        assert said == "updated: 1 changed"
        assert (counts["added"], counts["removed"], counts["changed"]) == (0, 0, 1)
    assert done(full=True)[0] == "rebuilt: asked for"
