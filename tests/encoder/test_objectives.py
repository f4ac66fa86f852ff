import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.interactions import Interactions
from recsys.encoder import transformer as blocks
from recsys.encoder import user_encoder as user
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatchLoader
from recsys.encoder.batches.users import UserBatchLoader
from recsys.encoder.objectives import next_item as module
from recsys.encoder.objectives.augmented import AugmentedViewLoss
from recsys.encoder.objectives.co_purchase import CoPurchaseLoss
from recsys.encoder.objectives.denoise import DenoisingLoss
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.objectives.masked_attributes import MaskedAttributeLoss
from recsys.encoder.objectives.masked_image import MaskedImageLoss
from recsys.encoder.objectives.masked_text import MaskedTextLoss
from recsys.encoder.objectives.next_item import NextItemLoss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.user_encoder import UserEncoder
from tests.encoder import shops

PRODUCT = {
    "masked_text": lambda: MaskedTextLoss(16),
    "masked_image": lambda: MaskedImageLoss(16, heads=2),
    "masked_attributes": MaskedAttributeLoss,
    "denoise": DenoisingLoss,
    "image_text": ImageTextLoss,
    "sigmoid": lambda: ImageTextLoss(kind="sigmoid"),
    "augmented": AugmentedViewLoss,
    "co_purchase": CoPurchaseLoss,
}


@pytest.fixture
def model() -> ProductEncoder:
    torch.manual_seed(0)
    return ProductEncoder.fit(shops.catalogue(), shops.ENCODER).train()


def batches(model: ProductEncoder, log: Interactions | None = None) -> ProductBatchLoader:
    return ProductBatchLoader(
        shops.catalogue(),
        model,
        CoPurchasePairs.from_interactions(shops.interactions() if log is None else log),
        batch_size=24,
        seed=0,
    )


@pytest.mark.parametrize("name", PRODUCT)
def test_a_few_steps_make_the_loss_smaller(model: ProductEncoder, name: str) -> None:
    objective = PRODUCT[name]()
    assert objective.name == {"sigmoid": "image_text"}.get(name, name)
    parts = nn.ModuleList([model, objective])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=3e-3)
    source, losses = batches(model), []
    for step in range(30):
        loss = objective(model, source.get_batch(step % 2), torch.Generator().manual_seed(step % 2))
        assert loss.shape == ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.parametrize("name", PRODUCT)
def test_chance_comes_from_the_generator_alone(model: ProductEncoder, name: str) -> None:
    objective, source = PRODUCT[name](), batches(model)
    model.eval()
    losses = [objective(model, source.get_batch(3), torch.Generator().manual_seed(seed)).item() for seed in (5, 5, 6)]
    assert losses[0] == losses[1] != losses[2]


def test_co_purchase_takes_off_the_frequency_and_leaves_known_partners_out(model: ProductEncoder) -> None:
    model.eval()
    batch = batches(model).get_batch(0)
    objective, half = CoPurchaseLoss(correction=0.5), len(batch) // 2
    found = objective(model, batch, torch.Generator().manual_seed(0)).item()
    vectors = batch.encode_masked(model, torch.Generator()).embedding.vector.detach().numpy()
    rows, partners = batch.rows[:half], batch.rows[half:]
    losses = []
    for i in np.flatnonzero(batch.has_partner.numpy()):
        known = {*batch.pairs.partners[batch.pairs.starts[rows[i]] : batch.pairs.starts[rows[i] + 1]].tolist(), rows[i]}
        against = [j for j in np.flatnonzero(batch.has_partner.numpy()) if j == i or partners[j] not in known]
        scores = [
            20 * vectors[i] @ vectors[half + j] - 0.5 * batch.pairs.log_batch_frequency[partners[j]] for j in against
        ]
        losses.append(np.log(np.exp(scores).sum()) - scores[against.index(i)])
    assert found == pytest.approx(np.mean(losses), rel=1e-3)


def test_without_any_pair_co_purchase_is_nothing(model: ProductEncoder) -> None:
    none = np.zeros(0, np.int64)
    batch = batches(model, Interactions.from_events(user=none, item=none, time=none, n_users=0, n_items=48)).get_batch(
        0
    )
    assert not bool(batch.has_partner.any())
    assert CoPurchaseLoss()(model, batch, torch.Generator()).item() == 0


def test_every_product_comes_once_in_a_pass(model: ProductEncoder) -> None:
    source = batches(model)
    rows = np.concatenate([source.get_batch(step).rows[: source.half_size] for step in range(4)])
    assert sorted(rows) == list(range(48))
    assert source.get_batch(1).rows.tolist() == batches(model).get_batch(1).rows.tolist()


def next_item(n: int = 48, *, negatives: int = 0) -> tuple[UserEncoder, NextItemLoss, UserBatchLoader]:
    catalogue, log = shops.catalogue(n), shops.interactions(n)
    torch.manual_seed(0)
    bought = [catalogue.ids.texts[i] for i in np.flatnonzero(log.counts())]
    users = UserEncoder(type(catalogue.ids)(bought), shops.ENCODER)
    content = nn.functional.normalize(torch.randn(n, 16), dim=1)
    return (
        users,
        NextItemLoss(content, users.residual_rows(catalogue.ids), id_dropout=0.0, negatives=negatives),
        UserBatchLoader(log, history_length=6, batch_size=8, seed=0),
    )


def test_the_next_item_is_judged_against_all_bought_products() -> None:
    users, objective, source = next_item()
    users.eval()
    users.fade.requires_grad_(False)
    batch, bought = source.get_batch(0), objective.bought
    table = users.ranking(objective.content[bought], torch.arange(len(bought)))
    rows = batch.items[:, :-1]
    place = {int(row): at for at, row in enumerate(bought)}
    inputs = torch.zeros(*rows.shape, 16)
    for i, j in (rows >= 0).nonzero().tolist():
        inputs[i, j] = table[place[int(rows[i, j])]]

    states = users(
        inputs, times=batch.times[:, :-1], kinds=batch.event_types[:, :-1], real=rows >= 0, until=batch.times[:, 1:]
    )
    losses, weights = [], []
    for i, j in (batch.weights[:, 1:] > 0).nonzero().tolist():
        scores = table @ states[i, j]
        losses.append((scores.logsumexp(0) - scores[place[int(batch.items[i, j + 1])]]).item())
        weights.append(float(batch.weights[i, j + 1]))
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, user):
            patch.setattr(module, "dropout", lambda x, _rate, _g: x)
        found = objective(users, batch, torch.Generator().manual_seed(0)).item()
    assert found == pytest.approx(np.average(losses, weights=weights), rel=1e-4)


def test_as_many_negatives_as_asked_for_are_drawn() -> None:
    users, objective, source = next_item(negatives=5)
    assert len(objective._sample_negatives(torch.Generator().manual_seed(0))) == 5
    everything = next_item()[1]._sample_negatives(torch.Generator())
    assert everything.tolist() == list(range(len(objective.bought)))
    assert 0 < objective(users, source.get_batch(0), torch.Generator().manual_seed(0)).item() < 10
    assert next_item(negatives=1000)[1].negatives == 0


def test_only_products_of_the_step_are_encoded() -> None:
    objective = next_item(negatives=5)[1]
    used, position = objective._collect_used(torch.tensor([[0, 3, -1]]), torch.tensor([5, 3]))
    assert used[:3].tolist() == [0, 3, 5]
    assert not used[3:].any()
    assert used[position[torch.tensor([0, 3, 5])]].tolist() == [0, 3, 5]
    assert len(used) == 256


def test_the_sum_over_negatives_is_that_of_torch_without_equals() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 5, generator=g, requires_grad=True) for n in (6, 4))
    truth, wrong = torch.tensor([1, 2, 3, 9, 3, 1]), torch.tensor([3, 3, 8, 1])
    factor = torch.arange(6.0)
    found = module._LogSumExp.apply(a, b, *module._find_matches(truth, wrong))
    grads = torch.autograd.grad((found * factor).sum(), (a, b))
    plain = (a @ b.T).masked_fill(truth[:, None] == wrong[None, :], -torch.inf).logsumexp(1)
    torch.testing.assert_close(found, plain)
    for one, other in zip(grads, torch.autograd.grad((plain * factor).sum(), (a, b)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_row_without_any_other_negative_teaches_nothing() -> None:
    a, b = torch.randn(2, 5, requires_grad=True), torch.randn(1, 5)
    found = module._LogSumExp.apply(a, b, *module._find_matches(torch.tensor([7, 1]), torch.tensor([7])))
    (grad,) = torch.autograd.grad(found.sum(), a)
    assert torch.isfinite(found).all()
    assert not grad[0].any()
    torch.testing.assert_close(grad[1], b[0])


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    x = torch.ones(200, 301)
    some, same, other = (blocks.dropout(x, 0.2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(some, same)
    assert not torch.equal(some, other)
    assert float((some == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(some.mean()) == pytest.approx(1, abs=0.01)
    assert some.max().item() == pytest.approx(1.25, abs=1e-4)


def test_windows_are_in_order_of_time_and_repeats_are_not_asked() -> None:
    user, item, day = np.zeros(6, np.int64), np.array([4, 5, 4, 6, 7, 7]), np.array([0, 0, 1, 2, 3, 4])
    log = Interactions.from_events(user=user, item=item, time=day * 86400, n_users=2, n_items=8)
    source = UserBatchLoader(log, history_length=7, batch_size=4, seed=0)
    assert source.users.tolist() == [0]
    baskets = set()
    for step in range(20):
        batch = source.get_batch(step)
        real = batch.items[0] >= 0
        assert real.tolist() == [True] * 6
        assert bool((batch.times[0].diff() >= 0).all())
        baskets.add(tuple(batch.items[0, :2].tolist()))
        asked = dict(zip(batch.items[0].tolist()[2:], batch.weights[0].tolist()[2:], strict=True))
        assert batch.weights[0, 0] == 0
        assert batch.weights[0].tolist()[2:] == [0, 1, 1, 0], asked
    assert baskets == {(4, 5), (5, 4)}
