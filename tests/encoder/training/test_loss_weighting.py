import math
import signal
from pathlib import Path

import pytest
import torch

from recsys.encoder.batches.products import ProductBatch
from recsys.encoder.model import Model
from recsys.encoder.training.loss_weighting import FixedWeights, UncertaintyWeights
from recsys.encoder.training.train import train_products
from recsys.errors import InterruptedRunError
from tests.encoder import shops
from tests.encoder.training.test_train import interrupt


def test_learned_weights_start_as_configured_and_add_what_the_paper_says() -> None:
    losses = {"a": torch.tensor(3.0), "b": torch.tensor(0.5)}
    weights = {"a": 0.3, "b": 2.0}
    learned = UncertaintyWeights(weights)
    assert learned.weights() == pytest.approx({"weight_a": 0.3, "weight_b": 2.0})
    expected = 0.3 * 3.0 - math.log(0.3) + 2.0 * 0.5 - math.log(2.0)
    assert float(learned(losses).detach()) == pytest.approx(expected)
    assert float(FixedWeights(weights)(losses)) == pytest.approx(0.3 * 3.0 + 2.0 * 0.5)
    assert FixedWeights(weights).state_dict() == {}


def test_learned_weights_come_to_rest_at_one_over_the_loss() -> None:
    learned = UncertaintyWeights({"a": 1.0, "b": 1.0, "silent": 0.7})
    losses = {"a": torch.tensor(4.0), "b": torch.tensor(0.25), "silent": torch.tensor(0.0)}
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        learned(losses).backward()
        optimizer.step()
    assert learned.weights() == pytest.approx({"weight_a": 0.25, "weight_b": 4.0, "weight_silent": 0.7}, rel=1e-2)


def test_learned_weights_are_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(folder: Path, *, resume: bool = False) -> Model:
        return train_products(
            shops.catalogue(24),
            shops.interactions(24),
            encoder=shops.ENCODER,
            objectives=shops.OBJECTIVES.model_copy(update={"weighting": "learned", "masked_text": 0}),
            training=shops.TRAINING.model_copy(update={"epochs": 1, "min_steps": 4, "learning_rate": 0.02}),
            folder=folder,
            resume=resume,
            progress=False,
        )

    whole = train(tmp_path / "whole")
    learned = {name: value for name, value in whole.metrics.items() if name.startswith("weight_")}
    assert set(learned) == {
        f"weight_{name}" for name in ("masked_attributes", "denoise", "image_text", "image_words", "co_purchase")
    }
    assert learned["weight_image_text"] != 1.0
    with monkeypatch.context() as patch:
        interrupt(patch, ProductBatch, 1, signal.SIGTERM)
        with pytest.raises(InterruptedRunError, match="after step 2 of 4"):
            train(tmp_path / "cut")
    again = train(tmp_path / "cut", resume=True)
    assert {name: again.metrics[name] for name in learned} == learned
    assert again.serialize_weights() == whole.serialize_weights()
