"""Spoilt attributes against plain loops."""

import numpy as np
import pytest
import torch

from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.objectives import denoise as module
from recsys.encoder.objectives.denoise import DenoisingLoss, corrupt
from recsys.encoder.product_encoder import ProductEncoder
from tests.encoder import shops


def attributes(m: int = 400) -> dict[str, torch.Tensor]:
    """Features whose numbers tell the product they are of: values 2 + row, numbers the row."""
    values = torch.zeros(m, 3, 4, dtype=torch.int32)
    values[:, :, 0] = 2 + torch.arange(m, dtype=torch.int32)[:, None]
    values[::5, 1] = 0
    numbers = torch.arange(m).float()[:, None].repeat(1, 2)
    return {"values": values, "numbers": numbers}


def test_features_are_swapped_one_by_one_or_blank_and_most_are_left() -> None:
    clean = attributes()
    kept = {key: held.clone() for key, held in clean.items()}
    spoilt = corrupt(clean, torch.Generator().manual_seed(0))
    assert all(torch.equal(clean[key], held) for key, held in kept.items())
    shares = {"left": 0, "blank": 0, "swapped": 0}
    for row in range(400):
        swapped_with = set()
        for column in range(5):
            if column < 3:
                own, now = (int(x["values"][row, column, 0]) for x in (clean, spoilt))
                blank = now == 0
                assert not spoilt["values"][row, column, 1:].any()
            else:
                own, now = (float(x["numbers"][row, column - 3]) for x in (clean, spoilt))
                blank = bool(np.isnan(now))
            if column == 1 and row % 5 == 0:
                continue
            shares["left" if now == own else "blank" if blank else "swapped"] += 1
            if now != own and not blank:
                swapped_with.add(now - 2 if column < 3 else now)
        assert all(0 <= other < 400 for other in swapped_with)
    total = sum(shares.values())
    assert shares["left"] / total == pytest.approx(0.70, abs=0.03)
    assert shares["blank"] / total == pytest.approx(0.15, abs=0.03)
    assert shares["swapped"] / total == pytest.approx(0.15, abs=0.03)
    again = corrupt(clean, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, spoilt, equal_nan=True)


def test_the_loss_asks_for_every_known_clean_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = ProductEncoder.fit(shops.catalogue(), shops.ENCODER).eval()
    batch = ProductBatchLoader(
        shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=24, seed=0
    ).get_batch(0)
    clean, field = batch.x["attributes"], model.attributes
    spoilt = corrupt(clean, torch.Generator().manual_seed(4))
    monkeypatch.setattr(module, "corrupt", lambda *_: spoilt)
    loss = DenoisingLoss()(model, batch, torch.Generator()).item()
    with torch.no_grad():
        summary = model.fuse({"attributes": field(spoilt)}, None).summary
        guess = field.guess(summary).numpy()
    losses, at = [], 0
    for c, feature in enumerate(field.categorical_features):
        for row in range(24):
            truth = [int(value) for value in clean["values"][row, c] if value]
            scores = guess[row, at : at + feature.size]
            losses += [np.log(np.exp(scores).sum()) - scores[truth].mean()] if truth else []
        at += feature.size
    for n, feature in enumerate(field.numeric_features):
        bins = field._bins(clean)[n]
        for row in range(24):
            scores = guess[row, at : at + feature.size]
            if not clean["numbers"][row, n].isnan():
                losses.append(np.log(np.exp(scores).sum()) - scores[int(bins[row])])
        at += feature.size
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
