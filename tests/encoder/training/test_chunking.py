from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.objectives.co_purchase import CoPurchaseLoss
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.objectives.masked_attributes import MaskedAttributeLoss
from recsys.encoder.objectives.masked_text import MaskedTextLoss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training import chunking
from recsys.encoder.training.chunking import chunked_forward
from tests.encoder import shops

Found = tuple[list[float], dict[str, Tensor], float]


@pytest.fixture
def model() -> ProductEncoder:
    torch.manual_seed(0)
    return ProductEncoder.fit(shops.catalogue(), shops.ENCODER).train()


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    """As in training: a kernel without a deterministic version raises."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode(before)


def step(model: ProductEncoder, *, chunk: int, compiled: bool = False) -> Found:
    """Losses, gradients and the next number of the generator after one step."""
    torch.manual_seed(1)
    objectives = [MaskedTextLoss(16), MaskedAttributeLoss(), ImageTextLoss(), CoPurchaseLoss()]
    batches = ProductBatchLoader(
        shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=24, seed=0
    )
    model.zero_grad()
    batch, g = batches.get_batch(1), torch.Generator().manual_seed(5)
    with chunked_forward(model, chunk_size=chunk, compiled=compiled):
        losses = [objective(model, batch, g) for objective in objectives]
        torch.stack(losses).sum().backward()
    named = [*model.named_parameters(), *nn.ModuleList(objectives).named_parameters()]
    gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return [float(loss.detach()) for loss in losses], gradients, float(torch.rand(1, generator=g))


def frozen_norms(model: ProductEncoder) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@pytest.mark.parametrize("chunk", [5, 8])
def test_chunks_give_the_losses_and_gradients_of_the_whole_batch(model: ProductEncoder, chunk: int) -> None:
    frozen_norms(model)  # batch normalisation goes by the pictures of a chunk, the one thing that is not the same
    whole, pieces = step(model, chunk=0), step(model, chunk=chunk)
    assert pieces[0] == pytest.approx(whole[0], abs=1e-5)
    assert pieces[2] == whole[2]  # as much was drawn, so what is drawn next is the same
    assert pieces[1].keys() == whole[1].keys()
    for name, gradient in whole[1].items():
        assert torch.allclose(pieces[1][name], gradient, atol=2e-5), name


def test_batch_normalisation_goes_by_the_chunk_and_counts_it_once(model: ProductEncoder) -> None:
    norm = model.image.tower.stem[1]
    assert norm.num_batches_tracked == 0
    seen: list[Tensor] = []
    with chunked_forward(model, chunk_size=8, compiled=False):
        usual = norm.forward
        norm.forward = lambda x: seen.append(x.detach().clone()) or usual(x)
        batch = ProductBatchLoader(
            shops.catalogue(), model, CoPurchasePairs.from_interactions(shops.interactions()), batch_size=24, seed=0
        ).get_batch(1)
        model.image(batch.x["image"], torch.Generator().manual_seed(0)).x.square().sum().backward()
        del norm.forward
        norm.forward = usual
    assert len(seen) == 6  # three chunks, each once more for the gradient
    assert norm.num_batches_tracked == 3
    mean = torch.zeros(24)
    for x in seen[:3]:
        mean = 0.9 * mean + 0.1 * x.mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    again = sorted(float(x.sum()) for x in seen[3:])
    assert again == pytest.approx(sorted(float(x.sum()) for x in seen[:3]))  # chance was the same


def test_no_more_than_a_chunk_is_in_the_tower_at_once(model: ProductEncoder) -> None:
    sizes: list[int] = []
    stage = model.image.tower.stages[0]
    stage.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    step(model, chunk=8)
    assert max(sizes) <= 8
    assert sum(sizes) > 8


def test_the_model_is_as_before_afterwards(model: ProductEncoder) -> None:
    with pytest.raises(ZeroDivisionError), chunked_forward(model, chunk_size=8, compiled=False):
        assert "fuse" in vars(model)
        raise ZeroDivisionError
    for module in (model, *model.modules()):
        assert not {"fuse", "forward", "hidden"} & vars(module).keys()
    with chunked_forward(model, chunk_size=0, compiled=False):  # nothing to cut, nothing changed
        assert "fuse" not in vars(model)


def test_outside_training_nothing_is_cut(model: ProductEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking._ChunkedCall, "_run_chunk", lambda *_, **__: pytest.fail("cut"))
    x = model.read(shops.catalogue(), torch.arange(20).numpy())
    with torch.no_grad(), chunked_forward(model.eval(), chunk_size=4, compiled=False):
        assert model(x).vector.shape == (20, 16)


class Noisy(nn.Module):
    def forward(self, x: dict[str, Tensor], g: torch.Generator) -> Tensor:
        return x["a"] * torch.rand(len(x["a"]), 1, generator=g)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text = Noisy()


def test_a_field_that_draws_for_itself_gets_a_seed_for_each_chunk() -> None:
    model, a = Tower(), torch.ones(7, 1, requires_grad=True)

    def drawn(seed: int) -> tuple[Tensor, Tensor]:
        a.grad = None
        with chunked_forward(model, chunk_size=3, compiled=False):
            out = model.text({"a": a}, torch.Generator().manual_seed(seed))
            out.sum().backward()
        return out.detach(), a.grad

    out, gradient = drawn(0)
    assert torch.equal(out, gradient)  # the second pass drew the same
    assert len(set(out.flatten().tolist())) == 7
    assert torch.equal(drawn(0)[0], out)
    assert not torch.equal(drawn(1)[0], out)


def test_the_compiler_is_given_the_towers_and_the_fusion(
    model: ProductEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    used: list[str] = []

    def front(function: Callable[..., object], *, dynamic: bool) -> Callable[..., object]:
        name = function.__qualname__
        asked.append(name)
        assert dynamic
        return lambda *given: used.append(name) or function(*given)

    whole = step(model, chunk=0)
    monkeypatch.setattr(torch, "compile", front)
    compiled = step(model, chunk=8, compiled=True)
    assert asked == ["ProductEncoder.fuse", "TextEncoder.forward", "ImageEncoder.forward"]
    assert set(used) == set(asked)
    assert compiled[2] == whole[2]
    assert "fuse" not in vars(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="making kernels takes a processor minutes")
def test_compiled_is_the_same(model: ProductEncoder) -> None:
    whole, compiled = step(model, chunk=0), step(model, chunk=0, compiled=True)
    assert compiled[0] == pytest.approx(whole[0], abs=1e-4)
