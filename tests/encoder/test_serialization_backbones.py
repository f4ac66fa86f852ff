"""Whole models with backbones: trained, saved, loaded, refused, and what strange shops do to them."""

import dataclasses
import errno
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from recsys.artifacts import atomic as durable
from recsys.artifacts.model_folder import current_version
from recsys.data.catalogue import Catalogue, Images
from recsys.encoder import serialization as checkpoint
from recsys.encoder.modalities import text
from recsys.encoder.modalities.text import TextEncoder, train_tokenizer
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.encoder.training.train import train_products
from recsys.errors import ModelFolderError, TemporaryError
from tests.encoder import shops
from tests.encoder import tiny_backbones as backbones

ROWS = np.arange(48)


def trained(folder: Path, **changed) -> Model:
    return train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=shops.ENCODER.model_copy(update=changed),
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update={"epochs": 1}),
        folder=folder,
        progress=False,
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "text": str(backbones.text_model(tmp_path_factory.mktemp("bert"))),
        "image": str(backbones.image_model(tmp_path_factory.mktemp("siglip"), "siglip")),
    }


def manifest_mended(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes into a model folder as if they had been written by `save`."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": checkpoint._sha256(data), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("tuning", ["frozen", "adapters", "tuned"])
def test_a_saved_model_needs_neither_the_backbones_folders_nor_the_network(
    sources: dict[str, str], tmp_path: Path, tuning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {name: shutil.copytree(path, tmp_path / name) for name, path in sources.items()}
    before = {name: (path / "model.safetensors").read_bytes() for name, path in here.items()}
    model = trained(tmp_path / "run", tuning=tuning, **{name: str(path) for name, path in here.items()})
    assert {"masked_text", "masked_attributes", "image_text", "image_words", "co_purchase"} <= model.metrics.keys()
    kept = load(before["text"])["encoder.layer.0.attention.self.query.weight"]
    now = model.product_encoder.state_dict()
    name = "text.tower.backbone.encoder.layer.0.attention.self.query"
    held = now.get(f"{name}.weight", now.get(f"{name}.layer.weight"))
    assert torch.equal(held, kept) == (tuning != "tuned")
    vectors, said = model.encode(shops.catalogue(), ROWS), model.encode_text(["红 boots", ""])
    folder = checkpoint.save(model, tmp_path / "models" / "encoder")
    for path in here.values():
        shutil.rmtree(path)
    # whoever asks the network here is told that there is none
    monkeypatch.setattr(socket.socket, "connect", asked_the_network)
    monkeypatch.setattr(socket, "getaddrinfo", asked_the_network)
    again = checkpoint.load(folder)
    assert again.version == model.version
    np.testing.assert_array_equal(again.encode(shops.catalogue(), ROWS), vectors)
    np.testing.assert_array_equal(again.encode_text(["红 boots", ""]), said)


def asked_the_network(*_, **__):
    raise AssertionError("asked the network")


def test_a_torchvision_network_is_built_again_from_its_name(tmp_path: Path) -> None:
    model = trained(tmp_path / "run", image="mobilenet_v3_small", text_tokens=4)
    again = checkpoint.load(checkpoint.save(model, tmp_path / "models"))
    np.testing.assert_array_equal(again.encode(shops.catalogue(), ROWS), model.encode(shops.catalogue(), ROWS))


def test_a_small_transformer_over_patches_learns(tmp_path: Path) -> None:
    model = trained(tmp_path / "run", image="vit", image_layers=1)
    again = checkpoint.load(checkpoint.save(model, tmp_path / "models"))
    np.testing.assert_array_equal(again.encode(shops.catalogue(), ROWS), model.encode(shops.catalogue(), ROWS))


def test_a_folder_of_another_configuration_is_refused_with_what_differs(products: Model, tmp_path: Path) -> None:
    folder = checkpoint.save(products, tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())

    def configured(**changed) -> None:
        other = {**config, "encoder": {**config["encoder"], **changed}}
        manifest_mended(folder, "config.json", json.dumps(other).encode())

    configured(width=32)
    with pytest.raises(ModelFolderError, match=r"product.*\(16,\) instead of \(32,\).*and \d+ more"):
        checkpoint.load(folder)
    configured(text_layers=2)
    with pytest.raises(ModelFolderError, match=r"text.tower.blocks.1.* is missing"):
        checkpoint.load(folder)
    configured(fusion_layers=1)
    with pytest.raises(ModelFolderError, match=r"blocks.1.* is not known"):
        checkpoint.load(folder)
    configured(depth=3)
    with pytest.raises(ModelFolderError, match=r"another version.*depth"):
        checkpoint.load(folder)
    configured()
    manifest_mended(folder, "config.json", json.dumps({**config, "format": 2}).encode())
    with pytest.raises(ModelFolderError, match="format 2 is not 5"):
        checkpoint.load(folder)
    configured()
    tensors = load(weights)
    manifest_mended(
        folder, "model.safetensors", save({k: v for k, v in tensors.items() if k != "product.image.out.bias"})
    )
    with pytest.raises(ModelFolderError, match="image.out.bias is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize("at", range(11))
def test_a_full_disk_leaves_the_last_model(
    products: Model, both: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    first = checkpoint.save(products, tmp_path / "models" / "encoder")
    write, done = durable.write_durable, []

    def full(path: Path, held: bytes) -> None:
        if len(done) == at:
            path.write_bytes(held[: len(held) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        done.append(path)
        write(path, held)

    monkeypatch.setattr(durable, "write_durable", full)
    with pytest.raises(TemporaryError, match="disk is full.*last one stays"):
        checkpoint.save(both, tmp_path / "models" / "encoder")
    assert sorted(path.name for path in first.parent.iterdir()) == sorted(["CURRENT", products.version])
    assert checkpoint.load(current_version(tmp_path / "models", "encoder")).version == products.version
    monkeypatch.undo()
    checkpoint.save(both, tmp_path / "models" / "encoder")
    assert current_version(tmp_path / "models", "encoder").name == both.version


def test_a_full_disk_while_a_checkpoint_is_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    snapshot, layer = TrainingCheckpoint(tmp_path / "x.safetensors", {"stage": "products"}), torch.nn.Linear(2, 2)
    snapshot.write(layer, None, 3)

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("recsys.encoder.training.checkpoint.save_file", full)
    with pytest.raises(TemporaryError, match="No space left.*--resume"):
        snapshot.write(layer, None, 4)
    assert snapshot.read(layer, None)[0] == 3


SCRIPTS = st.lists(
    st.one_of(
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0x0600, max_codepoint=0x06FF),
        st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF),
        st.characters(min_codepoint=0x0300, max_codepoint=0x036F),
        st.sampled_from(
            ["é", "e\u0301", "ﷺ", "👩🏽\u200d🚒", "\u202e", "İ", "ß", "ﬁ", " ", "\u3000", "\x00", "boots "]
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
).map("".join)
OWN = TextEncoder(train_tokenizer(backbones.TEXTS, 300), ["title"], shops.ENCODER)


@settings(deadline=None)
@given(SCRIPTS)
def test_mixed_scripts_go_through_the_tokens_and_back(said: str) -> None:
    ids = OWN.token_ids([said])[0]
    normal = OWN.tokenizer.normalizer.normalize_str(said)
    assert OWN.tokenizer.decode(ids, skip_special_tokens=False).removeprefix(" ") == normal.removeprefix(" ")
    assert not {text.PAD, text.MASK, text.NEXT} & set(ids)
    assert all(0 <= number < OWN.tokenizer.get_vocab_size() for number in ids)


@settings(deadline=None, max_examples=30)
@given(st.lists(SCRIPTS, max_size=5))
def test_any_texts_have_vectors(said: list[str]) -> None:
    with torch.inference_mode():
        seen = OWN(OWN.pad(OWN.token_ids(said)))
    assert seen.x.shape == (len(said), text.N_SUMMARY_TOKENS, shops.ENCODER.width)
    assert bool(torch.isfinite(seen.x).all())


def frame_of(**columns) -> Catalogue:
    whole = shops.catalogue()
    return dataclasses.replace(whole, frame=whole.frame.with_columns(**columns))


STRANGE = {
    "a description of 100,000 characters": lambda: frame_of(
        description=pl.when(pl.int_range(48) == 3).then(pl.lit("red 靴子 " * 15_000))
    ),
    "all titles equal": lambda: frame_of(title=pl.lit("boots"), description=pl.lit(None, pl.String)),
    "no text at all": lambda: frame_of(title=pl.lit(None, pl.String), description=pl.lit(None, pl.String)),
    "no picture": lambda: dataclasses.replace(shops.catalogue(), images=Images.empty(48, 16)),
    "one product": lambda: shops.catalogue(1),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("pretrained", [False, True], ids=["own", "pretrained"])
def test_strange_shops_have_vectors(sources: dict[str, str], name: str, pretrained: bool) -> None:
    catalogue = STRANGE[name]()
    encoder = shops.ENCODER.model_copy(update=sources if pretrained else {})
    torch.manual_seed(0)
    product = ProductEncoder.fit(catalogue, encoder)
    vectors = Model(product_encoder=product, user_encoder=None, settings=encoder).encode(
        catalogue, np.arange(len(catalogue))
    )
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_a_shop_whose_pictures_are_all_broken_can_be_learnt(tmp_path: Path) -> None:
    none = Images(np.zeros((0, 3, 16, 16), np.uint8), np.full(48, -1))
    nothing = dataclasses.replace(frame_of(image_hash=pl.lit(None, pl.String)), images=none)
    model = train_products(
        nothing,
        shops.interactions(),
        encoder=shops.ENCODER,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update={"epochs": 1}),
        folder=tmp_path,
        progress=False,
    )
    assert np.isfinite(model.encode(nothing, ROWS)).all()
