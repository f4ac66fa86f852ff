import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys.encoder.training.collapse import CollapseMonitor, effective_rank, mean_cosine


def test_mean_cosine_is_that_of_all_pairs() -> None:
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    pairs = [float(x[i] @ x[j]) / float(x[i].norm() * x[j].norm()) for i in range(7) for j in range(7) if i != j]
    assert mean_cosine(x) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert math.isnan(mean_cosine(x[:1]))


def test_effective_rank_is_the_exponential_of_the_entropy() -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(9, 5))
    found = np.sqrt(np.linalg.eigvalsh(x.T @ x))
    share = found / found.sum()
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(float(np.prod(share**-share)), rel=1e-6)
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.ones(6, 3)) == pytest.approx(1, abs=1e-5)


class Toy(nn.Module):
    """Every product has a weight of its own as its vector."""

    def __init__(self, n: int, d: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n, d, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> SimpleNamespace:
        assert not self.training  # looked at as a shop would
        return SimpleNamespace(vector=nn.functional.normalize(self.table[x], dim=1))


def trained(caplog: pytest.LogCaptureFixture, *, pull: float) -> tuple[list[dict[str, float]], list[str]]:
    """Train with a loss that draws all vectors to their mean (`pull` > 0) or away from it; looks and warnings."""
    model, watch, seen = Toy(20, 6), CollapseMonitor(steps=160, warmup_steps=8), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rows = np.concatenate([np.arange(20), np.arange(15)])
    batch = SimpleNamespace(rows=rows, x=torch.from_numpy(rows))
    with caplog.at_level(logging.WARNING, logger="recsys"):
        for step in range(160):
            loss = pull * (model.table - model.table.mean(0) - 0.5).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if found := watch.check(model.train(), batch, step + 1):
                assert model.training
                assert watch.last_metrics == found
                seen.append(found)
    return seen, [record.getMessage() for record in caplog.records]


def test_a_collapsing_model_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    seen, said = trained(caplog, pull=0.05)
    assert len(seen) == 4  # steps 50, 100, 150 and the last
    assert seen[0]["mean_cosine"] > 0.9
    assert seen[-1]["effective_rank"] < seen[0]["effective_rank"]
    assert len(said) == 1
    assert "after step 50" in said[0]
    assert "[objectives] image_text and co_purchase" in said[0]


def test_a_healthy_model_is_let_alone(caplog: pytest.LogCaptureFixture) -> None:
    seen, said = trained(caplog, pull=0.0)
    assert said == []
    unit = nn.functional.normalize(Toy(20, 6).table.detach(), dim=1)
    assert seen[-1]["mean_cosine"] == pytest.approx(
        mean_cosine(unit), abs=1e-6
    )  # a product that comes twice counts once


def test_nothing_is_said_while_the_model_has_learnt_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model, rows = Toy(20, 6), np.arange(20)
    with torch.no_grad():
        model.table.fill_(1.0)
    watch = CollapseMonitor(steps=100, warmup_steps=50)
    batch = SimpleNamespace(rows=rows, x=torch.from_numpy(rows))
    assert watch.check(model, batch, 49) == {}
    assert watch.check(model, batch, 50)["mean_cosine"] == pytest.approx(1)
    assert not caplog.records
    watch.check(model, batch, 100)
    assert "effective rank 1.0 of 6" in caplog.text
