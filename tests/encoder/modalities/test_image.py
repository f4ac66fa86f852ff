import numpy as np
import pytest
import torch

from recsys.encoder.modalities.image import ImageEncoder, augment
from tests.encoder.shops import ENCODER, catalogue


@pytest.fixture(scope="module")
def field() -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(ENCODER).eval()


def test_products_without_a_picture_are_not_there_and_change_nothing(field: ImageEncoder) -> None:
    pictures = catalogue().images
    x = ImageEncoder.read(pictures, np.arange(8))
    assert x["has"].tolist() == [True] * 6 + [False, True]
    with torch.inference_mode():
        tokens = field(x)
        alone = field({key: value[:6] for key, value in x.items()})
    assert tokens.real.any(1).tolist() == x["has"].tolist()
    np.testing.assert_allclose(tokens.x[:6], alone.x, atol=1e-5)


@pytest.mark.parametrize("size", [16, 64, 96])
def test_pictures_of_any_size_give_five_tokens(field: ImageEncoder, size: int) -> None:
    x = {"pixels": torch.zeros(2, 3, size, size, dtype=torch.uint8), "has": torch.tensor([True, False])}
    assert field(x).x.shape == (2, 5, ENCODER.width)
    assert field({**x, "has": torch.tensor([False, False])}).real.sum() == 0


def test_augmenting_depends_on_the_generator_alone_and_keeps_the_colour() -> None:
    pixels = torch.from_numpy(catalogue().images.pixels[:8]).float() / 255
    one, two, other = (augment(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    middle = one[:, :, 4:7, 6:10].mean((2, 3))
    assert torch.equal(middle.argmax(1)[:3], torch.tensor([0, 1, 2]))
