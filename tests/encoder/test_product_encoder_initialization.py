"""Where training starts: words by what goes together, a picture's first guess of them; naming words by a picture."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import orthogonal_procrustes

from recsys.data.catalogue import Images
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.modalities.bag_of_words import FIRST_WORD_ID, BagOfWordsEncoder
from recsys.encoder.modalities.image_descriptors import (
    N_COLOURS,
    N_HOG,
    N_THUMBNAIL,
    RidgeWordPredictor,
    colour_histogram,
    hog,
    image_descriptors,
)
from recsys.encoder.model import Model
from recsys.encoder.objectives.image_words import ImageWordLoss
from recsys.encoder.product_encoder import ProductEncoder
from tests.encoder import shops

DOCUMENTS = [["red", "boots"], ["red", "shoes"], ["blue", "boots"], ["blue", "shoes"], ["gold", "ring"]] * 3
DOCUMENTS += [["red", "boots", "shoes"], ["gold", "ring", "red"], ["blue", "ring"], ["gold", "shoes"]]


def words(dim: int) -> tuple[BagOfWordsEncoder, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    field = BagOfWordsEncoder.fit(DOCUMENTS, dim)
    return field, field.pad([field.token_ids(document) for document in DOCUMENTS])


def weighed(field: BagOfWordsEncoder) -> np.ndarray:
    """Documents by words, of unit length, written out."""
    out = np.zeros((len(DOCUMENTS), len(field.embedding.weight)))
    for row, document in enumerate(DOCUMENTS):
        for number, weight in field.token_ids(document).items():
            out[row, number] = weight
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_words_start_on_the_leading_directions_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.encoder.modalities.bag_of_words._RANDOM_WEIGHT", 0.0)
    field, x = words(3)
    field.initialize_lsa([x])
    rows = weighed(field)
    left, scale, right = np.linalg.svd(rows, full_matrices=False)
    best = (left[:, :3] * scale[:3]) @ right[:3]
    ours = rows @ field.embedding.weight.detach().numpy()
    np.testing.assert_allclose(ours @ ours.T, best @ best.T, atol=1e-5)


def test_a_word_of_each_kind_starts_somewhere_and_the_empty_number_nowhere() -> None:
    field, x = words(64)
    field.initialize_lsa([x])
    norms = field.embedding.weight.norm(dim=1)
    assert norms[0] == 0
    assert (norms[1:] > 0).all()


def test_words_start_without_any_word() -> None:
    field = BagOfWordsEncoder([], [], 8)
    field.initialize_lsa([field.pad([{}, {}])])
    assert torch.isfinite(field.embedding.weight).all()


def test_turned_words_come_as_near_as_can_be_to_where_the_known_ones_are_wanted() -> None:
    field, x = words(8)
    field.initialize_lsa([x])
    before = field.embedding.weight.detach().clone()
    known = list(field.token_ids(["red", "shoes", "blue"]))
    wanted = torch.randn(len(known), 8, generator=torch.Generator().manual_seed(1))
    field.align(field.word_usage([x]), known, wanted)
    after = field.embedding.weight.detach()
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-5, rtol=1e-4)  # no distance changes
    used = np.zeros(len(before))
    np.add.at(used, x["words"].numpy(), x["weights"].numpy())
    root = np.sqrt(used[known])[:, None]
    best, _ = orthogonal_procrustes(root * before[known].numpy(), root * wanted.numpy())
    where = root * (before[known].numpy() @ best)
    np.testing.assert_allclose(root * after[known].numpy(), where, atol=1e-4)


def test_words_turned_by_a_known_turn_all_follow_and_without_a_known_word_none_does() -> None:
    field, x = words(3)
    field.initialize_lsa([x])
    before = field.embedding.weight.detach().clone()
    field.align(field.word_usage([x]), [], torch.zeros(0, 3))
    assert torch.equal(field.embedding.weight, before)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))
    known = list(field.token_ids(["red", "shoes", "blue", "boots"]))
    field.align(field.word_usage([x]), known, before[known] @ turn)
    torch.testing.assert_close(field.embedding.weight.detach(), before @ turn, atol=1e-4, rtol=1e-4)


def of_corners(pixels: torch.Tensor) -> torch.Tensor:
    """A glance that sees so little that few pictures are more than its numbers."""
    return pixels[..., :3, :3].float().flatten(1) / 255


@pytest.mark.parametrize("pictures", [12, 300])
def test_an_honest_guess_is_that_of_a_map_fitted_without_the_picture(
    pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "image_descriptors": of_corners,
        "N_DESCRIPTORS": 27,
        "N_HOG": 9,
        "N_COLOURS": 9,
        "N_THUMBNAIL": 9,
    }.items():
        monkeypatch.setattr(f"recsys.encoder.modalities.image_descriptors.{name}", value)
    g = np.random.default_rng(0)
    pixels = g.integers(0, 256, (pictures, 3, 24, 24), dtype=np.uint8)
    wanted = torch.from_numpy(g.standard_normal((pictures, 4)).astype(np.float32))
    guess_of = RidgeWordPredictor(4)
    guess_of.fit(Images(pixels, np.arange(pictures)), wanted)
    seen = of_corners(torch.from_numpy(pixels)).double()
    truth = F.normalize(wanted, dim=1).double()
    middle, centre = seen.mean(0), truth.mean(0)
    softening = torch.tensor([0.02] * 18 + [0.05] * 9).double()
    seen, truth = (seen - middle) / (seen.std(0) + softening), truth - centre
    penalty = 0.3 * seen.square().sum() / 27 + 1e-6
    for row in (0, 5):
        rest = torch.arange(pictures) != row
        square = seen[rest].T @ seen[rest]
        square.diagonal().add_(penalty)
        guess = seen[row] @ torch.linalg.solve(square, seen[rest].T @ truth[rest]) + centre
        torch.testing.assert_close(guess_of.leave_one_out(np.array([row]))[0].double(), guess, atol=2e-3, rtol=2e-3)
        every = seen[row] @ torch.linalg.solve(seen.T @ seen + penalty * torch.eye(27), seen.T @ truth) + centre
        said = guess_of(torch.from_numpy(pixels[[row]]))[0].double()
        torch.testing.assert_close(said, every, atol=2e-3, rtol=2e-3)


def slow_outlines(lit: np.ndarray) -> np.ndarray:
    """One picture (3, 64, 64), pixel by pixel."""
    counts = np.zeros((9, 8, 8))
    for y in range(64):
        for x in range(64):
            steps = []
            for channel in lit:
                across = channel[y, x + 1] - channel[y, x - 1] if 0 < x < 63 else 0.0
                down = channel[y + 1, x] - channel[y - 1, x] if 0 < y < 63 else 0.0
                steps.append((across, down))
            across, down = max(steps, key=lambda step: step[0] ** 2 + step[1] ** 2)
            angle = math.atan2(down, across) % math.pi / math.pi * 9
            share = angle - math.floor(angle)
            for place, part in ((math.floor(angle) % 9, 1 - share), ((math.floor(angle) + 1) % 9, share)):
                counts[place, y // 8, x // 8] += part * math.hypot(across, down) / 64
    blocks = []
    for y in range(7):
        for x in range(7):
            block = counts[:, y : y + 2, x : x + 2].ravel()
            block = np.minimum(block / math.sqrt((block**2).sum() + 1e-3), 0.2)
            blocks.append(block / math.sqrt((block**2).sum() + 1e-3))
    return np.concatenate(blocks)


def slow_colours(lit: np.ndarray) -> np.ndarray:
    """One picture (3, 32, 32), pixel by pixel."""
    counts = np.zeros((6, 6, 6, 2, 2))
    for y in range(32):
        for x in range(32):
            near = [[max(0.0, 1 - abs(value * 5 - shade)) for shade in range(6)] for value in lit[:, y, x]]
            counts[:, :, :, y // 16, x // 16] += np.einsum("i,j,k->ijk", *near)
    return np.sqrt(np.concatenate([(counts / 256).ravel(), (counts.sum((3, 4)) / 1024).ravel()]))


def test_outlines_and_colours_against_slow_oracles() -> None:
    lit = torch.from_numpy(np.random.default_rng(3).random((2, 3, 64, 64), dtype=np.float32))
    for row in range(2):
        np.testing.assert_allclose(hog(lit)[row], slow_outlines(lit[row].double().numpy()), atol=1e-4)
    small = F.avg_pool2d(lit, 2)
    for row in range(2):
        np.testing.assert_allclose(colour_histogram(lit)[row], slow_colours(small[row].double().numpy()), atol=1e-4)


@pytest.mark.parametrize("side", [48, 64, 100])
def test_a_glance_sees_pictures_of_any_size_and_tells_shape_from_colour(side: int) -> None:
    pixels = torch.full((3, 3, side, side), 255, dtype=torch.uint8)
    box = slice(side // 4, 3 * side // 4)
    pixels[0, 1:, box, box] = 0  # a red square, a blue one, a red disc
    pixels[1, :2, box, box] = 0
    y, x = np.ogrid[:side, :side]
    pixels[2, 1:, torch.from_numpy((y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 3.5) ** 2)] = 0
    shapes, shades, copy = image_descriptors(pixels).split([N_HOG, N_COLOURS, N_THUMBNAIL], 1)
    assert copy.shape == (3, N_THUMBNAIL)
    assert F.cosine_similarity(shapes[0], shapes[1], dim=0) > F.cosine_similarity(shapes[0], shapes[2], dim=0)
    assert F.cosine_similarity(shades[0], shades[2], dim=0) > F.cosine_similarity(shades[0], shades[1], dim=0)
    assert image_descriptors(pixels[:0]).shape == (0, N_HOG + N_COLOURS + N_THUMBNAIL)


def test_an_honest_guess_takes_the_place_of_the_one_that_has_seen_the_picture() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER)
    x = (
        ProductBatchLoader(
            catalogue, model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=16, seed=0
        )
        .get_batch(0)
        .x["image"]
    )
    has = x["has"]
    assert has.any()
    torch.testing.assert_close(model.image.predict_words(x)[has], x["guess"][has])
    plain = {name: value for name, value in x.items() if name != "guess"}
    assert not torch.allclose(model.image.predict_words(x)[has], model.image.predict_words(plain)[has])
    unknown = {**x, "guess": torch.full_like(x["guess"], math.nan)}
    assert torch.equal(model.image.predict_words(unknown), model.image.predict_words(plain))


def test_naming_words_by_a_picture_against_a_slow_oracle() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER).eval()
    batch = ProductBatchLoader(
        catalogue, model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=16, seed=0
    ).get_batch(0)
    objective = ImageWordLoss(shops.ENCODER.width, 5)
    g = torch.Generator().manual_seed(0)
    loss = objective(model, batch, g)
    tokens, present = batch.towers(model, g)["image"].x, batch.present(model)["image"]
    total, count = 0.0, 0
    for row in range(len(batch)):
        held = {
            int(number) - FIRST_WORD_ID: float(weight)
            for number, weight in zip(batch.x["words"]["words"][row], batch.x["words"]["weights"][row], strict=True)
            if FIRST_WORD_ID <= int(number) < FIRST_WORD_ID + 5
        }
        if held and present[row]:
            guess = objective.head(tokens[row, -1]).log_softmax(0)
            total -= sum(weight * float(guess[word]) for word, weight in held.items()) / sum(held.values())
            count += 1
    assert count > 3
    assert float(loss) == pytest.approx(total / count, abs=1e-5)


def test_without_pictures_no_word_is_asked() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER)
    batch = ProductBatchLoader(
        catalogue, model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=16, seed=0
    ).get_batch(0)
    batch.x["image"]["has"] = torch.zeros_like(batch.x["image"]["has"])
    assert float(ImageWordLoss(shops.ENCODER.width, 5)(model, batch, torch.Generator())) == 0


def test_before_any_training_a_picture_finds_products_like_it() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue(96)
    model = Model(
        product_encoder=ProductEncoder.fit(catalogue, shops.ENCODER), user_encoder=None, settings=shops.ENCODER
    )
    rows = np.flatnonzero(catalogue.images.present)
    by_picture = model.encode(catalogue, rows, modalities=["image"])
    near = np.argsort(-(by_picture @ by_picture.T), axis=1)[:, 1:4]
    kinds = np.array(catalogue.frame["category"].to_list())[rows]
    assert (kinds[near] == kinds[:, None]).mean() > 0.8
