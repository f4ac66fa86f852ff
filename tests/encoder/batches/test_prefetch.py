import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys.config import TrainingSettings
from recsys.encoder.batches import prefetch
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.prefetch import PrefetchLoader
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training import loop
from recsys.encoder.training.checkpoint import TrainingCheckpoint
from recsys.errors import DataContractError
from tests.encoder import shops


@dataclass
class Numbers:
    """The batch of a step is its number; `broken` is a step that cannot be made."""

    broken: int = -1
    asked: list[int] = field(default_factory=list)
    steps_per_epoch: int = 5

    def get_batch(self, step: int) -> Tensor:
        self.asked.append(step)
        if step == self.broken:
            raise DataContractError("the picture has gone")
        return torch.tensor([float(step)])


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_come_in_order_and_at_most_two_ahead() -> None:
    numbers = Numbers()
    with PrefetchLoader(numbers, 3, 9, pinned=False) as source:
        for step in range(3, 9):
            assert float(source.next_batch()) == step
            assert numbers.asked[-1] <= step + 3  # the one taken gives room for a third
        assert numbers.asked == list(range(3, 9))
        assert source.waited_seconds >= 0
    assert threads() == []


def test_the_thread_ends_when_the_block_is_left_early() -> None:
    numbers = Numbers()
    with PrefetchLoader(numbers, 0, 10**9, pinned=False) as source:
        source.next_batch()
        assert threads() == ["batches"]
    assert threads() == []
    assert len(numbers.asked) <= 4


def test_an_error_in_the_making_comes_when_its_step_comes() -> None:
    with (
        pytest.raises(DataContractError, match="picture has gone"),
        PrefetchLoader(Numbers(2), 0, 9, pinned=False) as source,
    ):
        assert [float(source.next_batch()) for _ in range(2)] == [0, 1]
        source.next_batch()
    assert threads() == []


class Slow(Numbers):
    def get_batch(self, step: int) -> Tensor:
        time.sleep(0.02)
        return super().get_batch(step)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Square(nn.Module):
    name = "square"

    def forward(self, model: Line, batch: Tensor, g: torch.Generator) -> Tensor:
        return (model.weight * batch - 1).square().sum()


def run(folder: Path, numbers: Numbers) -> dict[str, float]:
    return loop.run_training_loop(
        Line(),
        [(1.0, Square())],
        numbers,
        steps=10,
        batch_size=1,
        learning_rate=1e-3,
        checkpoint=TrainingCheckpoint(folder / "line.safetensors", {"stage": "line"}),
        training=TrainingSettings(device="cpu", precision="fp32"),
        folder=folder,
        resume=False,
        progress=False,
    )


def test_the_share_of_the_time_spent_waiting_is_written(tmp_path: Path) -> None:
    metrics = run(tmp_path, Slow())
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 < row["waiting"] <= 1
    assert 0 < metrics["waiting"] <= 1
    assert set(metrics) == {"square", "waiting"}


def test_an_error_in_the_making_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="picture has gone"):
        run(tmp_path, Numbers(broken=4))
    assert threads() == []


def test_products_read_ahead_are_those_read_at_once() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER)
    batches = ProductBatchLoader(
        catalogue, model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=12, seed=3
    )
    with PrefetchLoader(batches, 0, 3, pinned=False) as source:
        for step in range(3):
            found, wanted = source.next_batch(), batches.get_batch(step)
            assert np.array_equal(found.rows, wanted.rows)
            assert found.x["image"]["pixels"].dtype == torch.uint8
            for name, part in wanted.x.items():
                for key, value in part.items():
                    assert torch.equal(found.x[name][key].nan_to_num(), value.nan_to_num())


def test_pinning_reaches_every_tensor_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER)
    batch = ProductBatchLoader(
        catalogue, model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=12, seed=3
    ).get_batch(0)
    reached = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: reached.append(self) or self.clone())
    pinned = prefetch.pin_memory(batch)
    tensors = [value for part in (*batch.x.values(), batch.query) for value in part.values()]
    tensors.append(batch.has_partner)
    assert {id(tensor) for tensor in reached} == {id(tensor) for tensor in tensors}
    assert pinned.rows is batch.rows
    assert pinned.pairs is batch.pairs
    assert torch.equal(pinned.x["text"]["tokens"], batch.x["text"]["tokens"])
