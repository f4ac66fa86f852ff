import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import ObjectiveSettings
from recsys.data.catalogue import Catalogue, Images
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.encoder.batches.products import ProductBatch, ProductBatchLoader
from recsys.encoder.batches.users import UserTrainingBatch
from recsys.encoder.model import Model
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.training import loop
from recsys.encoder.training.train import train_products, train_users
from recsys.errors import DataContractError, DegenerateLossError, InterruptedRunError, ModelFolderError
from tests.encoder import shops


def users_of(model: Model, folder: Path, **changed: bool) -> Model:
    content = model.encode(shops.catalogue(), np.arange(48))
    return train_users(
        model,
        content,
        shops.catalogue(),
        shops.interactions(),
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING,
        folder=folder,
        progress=False,
        **changed,
    )


def products_of(folder: Path, *, resume: bool = False, **changed: object) -> Model:
    return train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=shops.ENCODER,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update=changed),
        folder=folder,
        resume=resume,
        progress=False,
    )


def interrupt(monkeypatch: pytest.MonkeyPatch, batch: type, step: int, number: int) -> None:
    """Send this process a signal when the batch of `step` is put to use."""
    to, used = batch.to, []

    def put(self: object, device: torch.device) -> object:
        if len(used) == step:
            os.kill(os.getpid(), number)
        used.append(1)
        return to(self, device)

    monkeypatch.setattr(batch, "to", put)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_and_resumed_is_the_same_as_never_stopped(
    products: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        interrupt(patch, ProductBatch, 2, number)
        with pytest.raises(InterruptedRunError, match="after step 3 of 6; train --resume") as stopped:
            products_of(tmp_path)
    assert stopped.value.exit_code == code
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed = products_of(tmp_path, resume=True)
    assert resumed.serialize_weights() == products.serialize_weights()
    assert resumed.version == products.version
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [6]


def test_users_stopped_and_resumed_is_the_same_as_never_stopped(
    both: Model, products: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, UserTrainingBatch, 1, signal.SIGTERM)
        with pytest.raises(InterruptedRunError):
            users_of(products, tmp_path)
    assert users_of(products, tmp_path, resume=True).serialize_weights() == both.serialize_weights()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(products: Model, tmp_path: Path) -> None:
    torch.rand(7)
    before = torch.get_rng_state()
    assert products_of(tmp_path / "same").serialize_weights() == products.serialize_weights()
    assert torch.equal(torch.get_rng_state(), before)
    assert products_of(tmp_path / "other", seed=1).serialize_weights() != products.serialize_weights()


def test_a_finished_training_resumed_does_nothing_and_started_anew_forgets(
    products: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ProductBatchLoader, "get_batch", lambda *_: pytest.fail("a step was done again"))
        assert products_of(tmp_path, resume=True).serialize_weights() == products.serialize_weights()
    assert products_of(tmp_path, seed=1).serialize_weights() != products.serialize_weights()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    products_of(tmp_path)
    with pytest.raises(ModelFolderError, match=r"another training \(training.learning_rate differ\)"):
        products_of(tmp_path, resume=True, learning_rate=0.5)
    products_of(tmp_path, resume=True, checkpoint_minutes=99)
    path = tmp_path / "products.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFolderError, match="cannot be read"):
        products_of(tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken(self: ImageTextLoss, *_: object) -> torch.Tensor:
        asked.append(1)
        return self.log_scales.sum() * (float("nan") if len(asked) == 3 else 1.0)

    monkeypatch.setattr(ImageTextLoss, "forward", broken)
    with pytest.raises(DegenerateLossError, match=r"step 3 is not a number.*image_text nan.*learning_rate"):
        products_of(tmp_path)
    assert not (tmp_path / "products.safetensors").exists()


def test_losses_are_written_by_name(products: Model, tmp_path: Path) -> None:
    model = users_of(products_of(tmp_path, epochs=4), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"products", "users"}
    named = {"masked_text", "masked_attributes", "denoise", "image_text", "image_words", "co_purchase"}
    assert named | {"gradient", "step"} <= lines[0].keys()
    assert set(model.metrics) == named | {"next_item", "mean_cosine", "effective_rank", "waiting"}
    assert list((tmp_path / "tensorboard").rglob("events.*"))


def test_an_objective_without_weight_is_left_out(tmp_path: Path) -> None:
    model = train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=shops.ENCODER,
        training=shops.TRAINING,
        folder=tmp_path,
        progress=False,
        objectives=ObjectiveSettings(masked_text=0, masked_attributes=0, denoise=0, image_words=0, co_purchase=0),
    )
    assert set(model.metrics) == {"image_text", "mean_cosine", "effective_rank", "waiting"}


def test_the_schedule_rises_and_falls() -> None:
    rates = [loop._warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 0.02


def test_a_shop_without_products_or_users_is_refused(products: Model, tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    empty = Catalogue(IdMap([]), shops.catalogue().frame.head(0), np.zeros(0, bool), Images.empty(0))
    nobody = Interactions.from_events(user=none, item=none, time=none, n_users=0, n_items=0)
    with pytest.raises(DataContractError, match="no product"):
        train_products(
            empty, nobody, encoder=shops.ENCODER, objectives=shops.OBJECTIVES, training=shops.TRAINING, folder=tmp_path
        )
    once = Interactions.from_events(user=np.arange(3), item=np.arange(3), time=np.arange(3), n_users=3, n_items=48)
    with pytest.raises(DataContractError, match="no user has two events"):
        train_users(
            products,
            np.zeros((48, 16), np.float32),
            shops.catalogue(),
            once,
            objectives=shops.OBJECTIVES,
            training=shops.TRAINING,
            folder=tmp_path,
        )


def test_products_without_any_event_can_be_learnt(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    quiet = Interactions.from_events(user=none, item=none, time=none, n_users=0, n_items=48)
    model = train_products(
        shops.catalogue(),
        quiet,
        encoder=shops.ENCODER,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING,
        folder=tmp_path,
        progress=False,
    )
    assert np.isfinite(model.encode(shops.catalogue(), np.arange(48))).all()


def test_pictures_find_their_text(tmp_path: Path) -> None:
    """Learning for real: a picture shows colour and kind, so its nearest typed query is the true one of twelve."""
    model = products_of(tmp_path, min_steps=100, learning_rate=3e-3)
    catalogue = shops.catalogue(seed=5)
    rows = np.flatnonzero(catalogue.images.present)
    queries = [f"{colour} {kind}" for colour in shops.COLOURS for kind in shops.KINDS]
    frame = catalogue.frame
    colour = [list(shops.COLOURS)[row % 4] for row in rows]
    truth = [f"{c} {k}" for c, k in zip(colour, frame["category"].gather(rows.tolist()).to_list(), strict=True)]
    scores = model.encode(catalogue, rows, modalities=["image"]) @ model.encode_text(queries).T
    right = np.mean([queries[best] == true for best, true in zip(scores.argmax(1), truth, strict=True)])
    assert right > 0.6
    chinese = model.encode_text([shops.KINDS[kind] for kind in shops.KINDS])
    by_kind = model.encode(catalogue, rows, modalities=["text"]) @ chinese.T
    known = catalogue.frame["title"].is_not_null().to_numpy()[rows]
    kinds = np.array([list(shops.KINDS).index(kind) for kind in frame["category"].gather(rows.tolist()).to_list()])
    assert np.mean(by_kind.argmax(1)[known] == kinds[known]) > 0.6
