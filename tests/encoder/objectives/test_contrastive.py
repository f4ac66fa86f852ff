"""Contrastive losses against plain loops; what they mask, which numbers of a vector they teach."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from recsys.config import EncoderSettings, ObjectiveSettings
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatch, ProductBatchLoader
from recsys.encoder.objectives.augmented import AugmentedViewLoss
from recsys.encoder.objectives.co_purchase import CoPurchaseLoss
from recsys.encoder.objectives.contrastive import (
    ContrastiveView,
    contrastive_loss,
    infonce,
    same_product_mask,
    sigmoid_loss,
    symmetric_infonce,
)
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training.train import train_products
from tests.encoder import shops

ROWS = np.array([4, 7, 9, 4, 2])
SCALE = torch.tensor(7.0)


def two(m: int = 5, d: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    a, b = (nn.functional.normalize(torch.randn(m, d, generator=g), dim=1) for _ in range(2))
    return a, b


def batch_of(model: ProductEncoder) -> ProductBatch:
    return ProductBatchLoader(
        shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=24, seed=0
    ).get_batch(0)


def model_of(**changed: object) -> ProductEncoder:
    torch.manual_seed(0)
    return ProductEncoder.fit(shops.catalogue(), EncoderSettings(**{**shops.ENCODER.model_dump(), **changed}))


def found(a: np.ndarray, b: np.ndarray, alike: np.ndarray, scale: float) -> float:
    """Mean loss of finding b[i] by a[i] among all b but those alike."""
    losses = []
    for i in range(len(a)):
        scores = {j: scale * float(a[i] @ b[j]) for j in range(len(b)) if j == i or not alike[i, j]}
        losses.append(np.log(sum(np.exp(score) for score in scores.values())) - scores[i])
    return float(np.mean(losses))


def cut(vectors: np.ndarray, length: int) -> np.ndarray:
    return np.stack([row[:length] / np.linalg.norm(row[:length]) for row in vectors])


@pytest.mark.parametrize("lengths", [(), (2,), (2, 4)])
def test_contrast_is_the_mean_over_both_ways_and_all_lengths_without_equal_pairs(lengths: tuple[int, ...]) -> None:
    a, b = two()
    alike = ROWS[:, None] == ROWS[None, :]
    losses = []
    for length in (*lengths, 6):
        one, other = cut(a.numpy(), length), cut(b.numpy(), length)
        losses.append((found(one, other, alike, 7) + found(other, one, alike, 7)) / 2)
    loss = contrastive_loss(
        ContrastiveView(a, ROWS),
        ContrastiveView(b, ROWS),
        matrix_loss=partial(symmetric_infonce, scale=SCALE),
        excluded_pairs=same_product_mask,
        prefix_lengths=lengths,
    )
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_what_is_drawn_often_is_taken_off() -> None:
    a, b = two()
    drawn = np.arange(10) / 5
    scores = 7 * a.numpy() @ b.numpy().T - drawn[ROWS][None, :]
    scores[0, 3] = scores[3, 0] = -np.inf
    expected = np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))
    loss = contrastive_loss(
        ContrastiveView(a, ROWS),
        ContrastiveView(b, ROWS),
        matrix_loss=partial(infonce, scale=SCALE),
        excluded_pairs=same_product_mask,
        logit_correction=lambda rows: torch.from_numpy(drawn[rows]).float(),
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_sigmoid_judges_every_pair_by_itself() -> None:
    a, b = two()
    expected = 0.0
    for i in range(5):
        for j in range(5):
            if i == j or ROWS[i] != ROWS[j]:
                logit = 7 * float(a[i] @ b[j]) - 3
                expected += np.log1p(np.exp(-logit if i == j else logit)) / 5
    a.requires_grad_()
    judge = partial(sigmoid_loss, scale=SCALE, bias=torch.tensor(-3.0))
    loss = contrastive_loss(
        ContrastiveView(a, ROWS), ContrastiveView(b, ROWS), matrix_loss=judge, excluded_pairs=same_product_mask
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert a.grad is not None
    assert bool(torch.isfinite(a.grad).all())


def test_one_product_alone_says_nothing() -> None:
    a, b = two(1)
    loss = contrastive_loss(
        ContrastiveView(a, ROWS[:1]),
        ContrastiveView(b, ROWS[:1]),
        matrix_loss=partial(infonce, scale=SCALE),
        excluded_pairs=same_product_mask,
    )
    assert loss.item() == 0


@pytest.mark.parametrize("kind", ["infonce", "sigmoid"])
def test_image_text_compares_the_five_pairs_of_views(kind: str) -> None:
    model = model_of(matryoshka=[5]).eval()
    batch, objective = batch_of(model), ImageTextLoss(kind=kind)
    loss = objective(model, batch, torch.Generator().manual_seed(0)).item()
    towers, x = batch.towers(model, torch.Generator()), batch.x
    with torch.no_grad():
        views = {
            "text": model.fuse({"text": towers["text"]}, model.encode_words(x["words"])),
            "image": model.fuse({"image": towers["image"]}, model.predict_words(x["image"])),
            "whole": batch.encode_masked(model, torch.Generator()).embedding,
            "query": model.fuse({"text": model.text(batch.query)}, model.encode_words(batch.query)),
        }
    held = {name: view.vector.detach().numpy() for name, view in views.items()}
    has = {"text": x["text"]["tokens"][:, 0].numpy() > 0, "image": x["image"]["has"].numpy()}
    titles = x["text"]["tokens"].numpy()
    losses = []
    for pair in ("text_image", "text_whole", "image_whole", "query_whole", "query_image"):
        one, other = pair.split("_")
        kept = [i for i in range(len(batch)) if all(has[name][i] for name in (one, other) if name in has)]
        alike = np.array(
            [
                [batch.rows[i] == batch.rows[j] or ("text" in pair and (titles[i] == titles[j]).all()) for j in kept]
                for i in kept
            ]
        )
        for length in (5, 16):
            a, b = cut(held[one][kept], length), cut(held[other][kept], length)
            if kind == "infonce":
                losses.append((found(a, b, alike, 20) + found(b, a, alike, 20)) / 2)
                continue
            every = np.log1p(np.exp(10 * a @ b.T - 10)) * ~alike
            np.fill_diagonal(every, np.log1p(np.exp(10 - 10 * (a * b).sum(1))))
            losses.append(every.sum() / len(kept))
    assert loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_sigmoid_starts_where_its_paper_does() -> None:
    objective = ImageTextLoss(kind="sigmoid")
    assert objective.log_scales.exp().tolist() == pytest.approx([10] * 5)
    assert objective.biases is not None
    assert objective.biases.tolist() == [-10] * 5
    assert ImageTextLoss().biases is None


def test_each_view_is_to_find_the_other_among_both_views_of_all() -> None:
    model = model_of(matryoshka=[5]).eval()
    batch, objective = batch_of(model), AugmentedViewLoss()
    views: list[np.ndarray] = []
    again = AugmentedViewLoss.second_view
    objective.second_view = lambda *given: views.append(again(*given)) or views[-1]  # type: ignore[method-assign]
    loss = objective(model, batch, torch.Generator().manual_seed(0)).item()
    one = batch.encode_masked(model, torch.Generator()).embedding.vector.detach().numpy()
    (second,) = views
    other = second.embedding.vector.detach().numpy()
    assert len(one) == len(other) == 24
    losses = []
    for length in (5, 16):
        both, rows = cut(np.concatenate([one, other]), length), np.tile(batch.rows, 2)
        for i in range(48):
            partner = (i + 24) % 48
            scores = {j: 10 * both[i] @ both[j] for j in range(48) if j == partner or rows[j] != rows[i]}
            losses.append(np.log(np.exp(list(scores.values())).sum()) - scores[partner])
    assert loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_a_second_view_is_another_and_spoils_nothing() -> None:
    model = model_of().train()
    batch = batch_of(model)
    before = {name: {key: held.clone() for key, held in part.items()} for name, part in batch.x.items()}
    g = torch.Generator().manual_seed(3)
    whole, second = batch.encode_masked(model, g), AugmentedViewLoss.second_view(model, batch, slice(0, None, 2), g)
    assert second.embedding.vector.shape == (12, 16)
    assert not torch.allclose(whole.tokens["image"].x[::2], second.tokens["image"].x)
    assert not torch.allclose(whole.tokens["text"].x[::2], second.tokens["text"].x)
    assert not torch.equal(whole.tokens["text"].real[::2], second.tokens["text"].real)
    for name, part in before.items():
        for key, held in part.items():
            torch.testing.assert_close(batch.x[name][key], held, equal_nan=True)


def test_matryoshka_lengths_are_below_dim_and_ascend() -> None:
    assert EncoderSettings().prefixes == (32, 64)
    assert EncoderSettings(dim=64).prefixes == (32,)
    assert shops.ENCODER.prefixes == ()
    assert EncoderSettings(matryoshka=[]).prefixes == ()
    assert EncoderSettings(dim=16, matryoshka=[4, 8]).prefixes == (4, 8)
    for wrong in ([64, 32], [0, 32], [32, 32], [32, 128]):
        with pytest.raises(ValidationError, match=r"matryoshka .* must ascend .* dim \(128\)"):
            EncoderSettings(matryoshka=wrong)


def test_co_purchase_is_judged_at_every_length() -> None:
    model = model_of(matryoshka=[5]).eval()
    batch = batch_of(model)
    loss = CoPurchaseLoss(correction=0.5)(model, batch, torch.Generator().manual_seed(0)).item()
    vectors = batch.encode_masked(model, torch.Generator()).embedding.vector.detach().numpy()
    half, pairs = len(batch) // 2, batch.pairs
    rows, partners = batch.rows[:half], batch.rows[half:]
    asked = [int(i) for i in np.flatnonzero(batch.has_partner.numpy())]
    losses = []
    for length in (5, 16):
        short = cut(vectors, length)
        for i in asked:
            known = {rows[i], *pairs.partners[pairs.starts[rows[i]] : pairs.starts[rows[i] + 1]].tolist()}
            against = [j for j in asked if j == i or partners[j] not in known]
            scores = [20 * short[i] @ short[half + j] - 0.5 * pairs.log_batch_frequency[partners[j]] for j in against]
            losses.append(np.log(np.exp(scores).sum()) - scores[against.index(i)])
    assert loss == pytest.approx(np.mean(losses), rel=1e-3)


def found_by_the_first(lengths: tuple[int, ...]) -> dict[int, float]:
    """Recall@1 among 200 things never seen, by the first 4, 8 and by all 32 numbers, of two small linear towers."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    meaning = torch.randn(400, 24, generator=g) * torch.linspace(2, 0.2, 24)
    views = [
        meaning @ torch.randn(24, 48, generator=g) + 3 * torch.randn(400, 48, generator=g),
        meaning @ torch.randn(24, 48, generator=g) + 3 * torch.randn(400, 48, generator=g),
    ]
    towers = nn.ModuleList([nn.Linear(48, 32), nn.Linear(48, 32)])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=1e-2)
    for _ in range(150):
        rows = torch.randint(200, (64,), generator=g).numpy()
        a, b = (
            ContrastiveView(nn.functional.normalize(tower(view[rows]), dim=1), rows)
            for tower, view in zip(towers, views, strict=True)
        )
        loss = contrastive_loss(
            a,
            b,
            matrix_loss=partial(symmetric_infonce, scale=torch.tensor(10.0)),
            excluded_pairs=same_product_mask,
            prefix_lengths=lengths,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        one, other = (tower(view[200:]).numpy() for tower, view in zip(towers, views, strict=True))
    return {
        length: float(np.mean((cut(one, length) @ cut(other, length).T).argmax(1) == np.arange(200)))
        for length in (4, 8, 32)
    }


def test_first_numbers_that_were_taught_find_more_and_all_of_them_no_less() -> None:
    plain, taught = found_by_the_first(()), found_by_the_first((4, 8))
    assert taught[8] > plain[8] + 0.15
    assert taught[4] > plain[4] * 1.5
    assert taught[32] > plain[32] - 0.03


def test_all_new_objectives_train_together(tmp_path: Path) -> None:
    model = train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=shops.ENCODER.model_copy(update={"matryoshka": [8]}),
        objectives=ObjectiveSettings(masked_image=1, denoise=1, augmented=1, contrast="sigmoid"),
        training=shops.TRAINING,
        folder=tmp_path,
        progress=False,
    )
    assert {"masked_image", "denoise", "augmented", "image_text"} <= set(model.metrics)
    assert np.isfinite(model.encode(shops.catalogue(), np.arange(48))).all()
