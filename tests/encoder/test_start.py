"""Where training starts: words by what goes together, a picture's first guess of them; naming words by a picture."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys.data.catalogue import Pictures
from recsys.encoder.batches import ProductBatches
from recsys.encoder.fields.image import ImageField, _small
from recsys.encoder.fields.words import FIRST, WordsField
from recsys.encoder.model import Model
from recsys.encoder.objectives.image_words import ImageWords
from recsys.encoder.pairs import Pairs
from recsys.encoder.product import ProductEncoder
from tests.encoder import shops

DOCUMENTS = [["red", "boots"], ["red", "shoes"], ["blue", "boots"], ["blue", "shoes"], ["gold", "ring"]] * 3
DOCUMENTS += [["red", "boots", "shoes"], ["gold", "ring", "red"], ["blue", "ring"], ["gold", "shoes"]]


def words(dim: int) -> tuple[WordsField, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    field = WordsField.fit(DOCUMENTS, dim)
    return field, field.padded([field.numbers(document) for document in DOCUMENTS])


def weighed(field: WordsField) -> np.ndarray:
    """Documents by words, of unit length, written out."""
    out = np.zeros((len(DOCUMENTS), len(field.embedding.weight)))
    for row, document in enumerate(DOCUMENTS):
        for number, weight in field.numbers(document).items():
            out[row, number] = weight
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_words_start_on_the_leading_directions_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.encoder.fields.words._CHANCE", 0.0)
    field, x = words(3)
    field.start([x])
    rows = weighed(field)
    left, scale, right = np.linalg.svd(rows, full_matrices=False)
    best = (left[:, :3] * scale[:3]) @ right[:3]
    ours = rows @ field.embedding.weight.detach().numpy()
    np.testing.assert_allclose(ours @ ours.T, best @ best.T, atol=1e-5)


def test_a_word_of_each_kind_starts_somewhere_and_the_empty_number_nowhere() -> None:
    field, x = words(64)
    field.start([x])
    norms = field.embedding.weight.norm(dim=1)
    assert norms[0] == 0
    assert (norms[1:] > 0).all()


def test_words_start_without_any_word() -> None:
    field = WordsField([], [], 8)
    field.start([field.padded([{}, {}])])
    assert torch.isfinite(field.embedding.weight).all()


def test_folded_in_a_word_points_where_its_company_does() -> None:
    field, x = words(16)
    field.start([x])
    before = field.embedding.weight.detach().clone()
    (new,) = field.numbers(["shoes"])
    known = [number for number in range(len(before)) if number != new]
    with torch.no_grad():
        field.embedding.weight[new] = 0
    field.fold_in([x], known)
    after = field.embedding.weight.detach()
    assert torch.equal(after[known], before[known])
    company = sum(F.normalize(before[number], dim=0) for number in field.numbers(["red", "blue"]))
    assert F.cosine_similarity(after[new], company, dim=0) > 0.9


@pytest.mark.parametrize("pictures", [12, 300])
def test_an_honest_guess_is_that_of_a_map_fitted_without_the_picture(
    pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.encoder.fields.image._GLANCE", 6)
    g = np.random.default_rng(0)
    pixels = g.integers(0, 256, (pictures, 3, 24, 24), dtype=np.uint8)
    wanted = torch.from_numpy(g.standard_normal((pictures, 4)).astype(np.float32))
    some = Pictures(pixels, np.arange(pictures))
    field = ImageField(shops.ENCODER.model_copy(update={"dim": 4}))
    field.fit(some, wanted)
    seen = _small(torch.from_numpy(pixels)).double()
    truth = F.normalize(wanted, dim=1).double()
    middle, centre = seen.mean(0), truth.mean(0)
    seen, truth = seen - middle, truth - centre
    penalty = 3e-3 * seen.square().sum() / seen.shape[1] + 1e-6
    for row in (0, 5):
        rest = torch.arange(pictures) != row
        square = seen[rest].T @ seen[rest]
        square.diagonal().add_(penalty)
        guess = seen[row] @ torch.linalg.solve(square, seen[rest].T @ truth[rest]) + centre
        torch.testing.assert_close(field.honest(np.array([row]))[0].double(), guess, atol=2e-3, rtol=2e-3)


def test_an_honest_guess_takes_the_place_of_the_one_that_has_seen_the_picture() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER)
    x = ProductBatches(catalogue, model, Pairs.mine(shops.interactions()), size=16, seed=0).at(0).x["image"]
    has = x["has"]
    assert has.any()
    torch.testing.assert_close(model.image.glance(x)[has], x["guess"][has])
    plain = {name: value for name, value in x.items() if name != "guess"}
    assert not torch.allclose(model.image.glance(x)[has], model.image.glance(plain)[has])
    unknown = {**x, "guess": torch.full_like(x["guess"], math.nan)}
    assert torch.equal(model.image.glance(unknown), model.image.glance(plain))


def test_naming_words_by_a_picture_against_a_slow_oracle() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue()
    model = ProductEncoder.fit(catalogue, shops.ENCODER).eval()
    batch = ProductBatches(catalogue, model, Pairs.mine(shops.interactions()), size=16, seed=0).at(0)
    objective = ImageWords(shops.ENCODER.width, 5)
    g = torch.Generator().manual_seed(0)
    loss = objective(model, batch, g)
    tokens, present = batch.towers(model, g)["image"].x, batch.present(model)["image"]
    total, count = 0.0, 0
    for row in range(len(batch)):
        held = {
            int(number) - FIRST: float(weight)
            for number, weight in zip(batch.x["words"]["words"][row], batch.x["words"]["weights"][row], strict=True)
            if FIRST <= int(number) < FIRST + 5
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
    batch = ProductBatches(catalogue, model, Pairs.mine(shops.interactions()), size=16, seed=0).at(0)
    batch.x["image"]["has"] = torch.zeros_like(batch.x["image"]["has"])
    assert float(ImageWords(shops.ENCODER.width, 5)(model, batch, torch.Generator())) == 0


def test_before_any_training_a_picture_finds_products_like_it() -> None:
    torch.manual_seed(0)
    catalogue = shops.catalogue(96)
    model = Model(product=ProductEncoder.fit(catalogue, shops.ENCODER), user=None, settings=shops.ENCODER)
    rows = np.flatnonzero(catalogue.pictures.present)
    by_picture = model.encode(catalogue, rows, modalities=["image"])
    near = np.argsort(-(by_picture @ by_picture.T), axis=1)[:, 1:4]
    kinds = np.array(catalogue.frame["category"].to_list())[rows]
    assert (kinds[near] == kinds[:, None]).mean() > 0.8
