"""Hidden pictures against plain loops over pixels and patches."""

import numpy as np
import pytest
import torch

from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatch, ProductBatchLoader
from recsys.encoder.objectives import masked_image as module
from recsys.encoder.objectives.masked_image import (
    GRID_SIZE,
    N_MASKED,
    MaskedImageLoss,
    extract_patches,
    frozen_batch_norm,
    mask_patches,
)
from recsys.encoder.product_encoder import ProductEncoder
from tests.encoder import shops


@pytest.fixture
def model() -> ProductEncoder:
    torch.manual_seed(0)
    return ProductEncoder.fit(shops.catalogue(), shops.ENCODER).train()


def batches(model: ProductEncoder) -> ProductBatchLoader:
    return ProductBatchLoader(
        shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=24, seed=0
    )


def noise(m: int, size: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (m, 3, size, size), generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("size", [16, 64, 96])
def test_hidden_patches_and_nothing_else_are_blank(size: int) -> None:
    pixels, hidden = noise(2, size), torch.tensor([[0, 9, 63], [7, 8, 20]])
    found, side = mask_patches(pixels, hidden), size // GRID_SIZE
    for m in range(2):
        for row in range(size):
            for column in range(size):
                patch = (row // side) * GRID_SIZE + column // side
                wanted = [128] * 3 if patch in hidden[m].tolist() else pixels[m, :, row, column].tolist()
                assert found[m, :, row, column].tolist() == wanted


def test_the_truth_is_a_small_copy_of_each_patch_of_mean_0_and_variance_1() -> None:
    pixels = noise(2, 64)
    pixels[1, :, :8, :8] = 255
    found = extract_patches(pixels).numpy()
    assert found.shape == (2, 64, 48)
    for m, patch in ((0, 0), (0, 13), (1, 63)):
        top, left = 8 * (patch // GRID_SIZE), 8 * (patch % GRID_SIZE)
        small = np.zeros((3, 4, 4))
        for channel in range(3):
            for row in range(4):
                for column in range(4):
                    of = pixels[
                        m, channel, top + 2 * row : top + 2 * row + 2, left + 2 * column : left + 2 * column + 2
                    ]
                    small[channel, row, column] = of.float().mean() / 255
        np.testing.assert_allclose(
            found[m, patch], ((small - small.mean()) / np.sqrt(small.var() + 1e-3)).flatten(), atol=1e-4
        )
    assert not found[1, 0].any()


@pytest.fixture
def all_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRIDE", 1)


@pytest.mark.usefixtures("all_asked")
def test_the_loss_is_the_squared_error_of_the_hidden_patches(model: ProductEncoder) -> None:
    model.eval()
    objective, batch = MaskedImageLoss(16, heads=2), batches(model).get_batch(0)
    with torch.no_grad():
        objective.paint.weight.zero_()
        objective.paint.bias.copy_(torch.linspace(-1, 1, 48))
    seen: list[torch.Tensor] = []

    def spied(pixels: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        seen.extend((pixels, hidden))
        return mask_patches(pixels, hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mask_patches", spied)
        loss = objective(model, batch, torch.Generator().manual_seed(0)).item()
    pixels, hidden = seen
    assert hidden.shape == (int(batch.x["image"]["has"].sum()), N_MASKED)
    truth, guess, total = extract_patches(pixels).numpy(), np.linspace(-1, 1, 48), 0.0
    for m, places in enumerate(hidden.tolist()):
        assert len(set(places)) == N_MASKED
        for place in places:
            total += float(np.square(truth[m, place] - guess).mean())
    assert loss == pytest.approx(total / hidden.numel(), rel=1e-4)


@pytest.mark.usefixtures("all_asked")
def test_what_is_hidden_does_not_matter_but_the_rest_and_other_modalities_do(model: ProductEncoder) -> None:
    """The guess may look at blank pictures, text and attributes, never at what it is to guess."""
    model.eval()
    objective, source = MaskedImageLoss(16, heads=2), batches(model)
    guesses: list[torch.Tensor] = []
    objective.paint.register_forward_hook(lambda _module, _given, out: guesses.append(out))
    seen: list[torch.Tensor] = []

    def asked(change: str) -> torch.Tensor:
        batch: ProductBatch = source.get_batch(0)
        has = batch.x["image"]["has"]
        if change == "hidden":
            pixels, hidden = seen
            cells = torch.zeros(len(pixels), 64).scatter(1, hidden, 1.0).view(-1, 1, 8, 8)
            mask = cells.repeat_interleave(2, 2).repeat_interleave(2, 3) > 0
            batch.x["image"]["pixels"][has] = pixels.masked_fill(mask, 1)
        if change == "rest":
            batch.x["image"]["pixels"] = 255 - batch.x["image"]["pixels"]
        batch.encode_masked(model, torch.Generator().manual_seed(9))
        if change == "others":
            for name in ("text", "attributes"):
                batch.encode_masked(model, torch.Generator()).tokens[name].x.mul_(-1)
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(module, "mask_patches", lambda *given: seen.extend(given) or mask_patches(*given))
            objective(model, batch, torch.Generator().manual_seed(0))
        return guesses[-1]

    plain = asked("nothing")
    del seen[2:]
    torch.testing.assert_close(asked("hidden"), plain)
    assert not torch.allclose(asked("rest"), plain)
    assert not torch.allclose(asked("others"), plain)


def test_blank_pictures_leave_the_statistics_of_the_tower_alone(model: ProductEncoder) -> None:
    objective, batch = MaskedImageLoss(16, heads=2), batches(model).get_batch(0)
    g = torch.Generator().manual_seed(0)
    batch.encode_masked(model, g)
    before = {name: held.clone() for name, held in model.image.named_buffers()}
    loss = objective(model, batch, g)
    for name, held in model.image.named_buffers():
        assert torch.equal(held, before[name]), name
    loss.backward()
    assert model.image.tower.stem[0].weight.grad is not None
    with torch.no_grad():
        model.image(batch.x["image"])
    assert not torch.equal(model.image.tower.stem[1].running_mean, before["tower.stem.1.running_mean"])


def test_unnoticed_is_over_after_an_error(model: ProductEncoder) -> None:
    with pytest.raises(ZeroDivisionError), frozen_batch_norm(model.image):
        assert not model.image.tower.stem[1].track_running_stats
        raise ZeroDivisionError
    assert model.image.tower.stem[1].track_running_stats


def test_without_pictures_there_is_nothing_to_guess(model: ProductEncoder) -> None:
    batch = batches(model).get_batch(0)
    batch.x["image"]["has"][:] = False
    loss = MaskedImageLoss(16, heads=2)(model, batch, torch.Generator())
    assert loss.item() == 0
    loss.backward()


def test_one_picture_in_eight_is_asked_where_there_are_many(model: ProductEncoder) -> None:
    batch, asked = batches(model).get_batch(0), []
    big = {name: {key: torch.cat([held] * 10) for key, held in part.items()} for name, part in batch.x.items()}
    batch = ProductBatch(np.tile(batch.rows, 10), big, batch.query, batch.text_key, batch.has_partner, batch.pairs)
    has = int(big["image"]["has"].sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "mask_patches", lambda *given: asked.append(len(given[0])) or mask_patches(*given))
        MaskedImageLoss(16, heads=2)(model, batch, torch.Generator().manual_seed(0))
    assert has > 100
    assert asked[0] in (has // 8, has // 8 + 1)
