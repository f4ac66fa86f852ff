"""Pictures are decoded once, when they come in: training and encoding read pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recsys.config import ImageSettings
from recsys.data import image_decoding as decode_room
from recsys.data import image_store as images
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.training.train import train_products
from tests.encoder import shops


def test_no_epoch_decodes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shops.catalogue()
    (tmp_path / "album").mkdir()
    for row in np.flatnonzero(plain.images.present).tolist():
        pixels = plain.images.take(np.array([row]))[0].transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / "album" / f"{plain.ids.texts[row]}.png")
    decoded: list[str] = []
    opened, decode = Image.open, decode_room.decode_image
    monkeypatch.setattr(Image, "open", lambda *a, **k: decoded.append("open") or opened(*a, **k))
    for room in (images, decode_room):
        monkeypatch.setattr(room, "decode_image", lambda *a: decoded.append("decode") or decode(*a))
    store = images.ImageStore(tmp_path / "cache", ImageSettings(size=plain.images.pixels.shape[-1]))
    store.add(tmp_path / "album", {}, also=plain.ids.texts)
    held = int(plain.images.present.sum())
    assert sorted(decoded) == ["decode"] * held + ["open"] * held  # the counters count
    decoded.clear()

    catalogue = replace(plain, images=store.images(plain.ids))
    np.testing.assert_array_equal(catalogue.images.take(np.arange(9)), plain.images.take(np.arange(9)))
    passes: list[int] = []
    at = ProductBatchLoader.get_batch
    monkeypatch.setattr(
        ProductBatchLoader,
        "get_batch",
        lambda self, step: passes.append(step // self.steps_per_epoch) or at(self, step),
    )
    model = train_products(
        catalogue,
        shops.interactions(),
        encoder=shops.ENCODER,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update={"epochs": 2, "min_steps": 1}),
        folder=tmp_path / "training",
        progress=False,
    )
    assert set(passes) == {0, 1}
    model.encode(catalogue, np.arange(len(catalogue)))
    assert decoded == []
