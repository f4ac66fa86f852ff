"""Training from a model, with labels, with a teacher: what is taken over, what is learnt, what is refused."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from recsys.config import EncoderSettings
from recsys.data.catalogue import Catalogue
from recsys.data.labels import Labels
from recsys.encoder.batches.co_purchase_pairs import CoPurchasePairs
from recsys.encoder.batches.products import ProductBatch, ProductBatchLoader
from recsys.encoder.model import Model
from recsys.encoder.objectives.image_text import ImageTextLoss
from recsys.encoder.objectives.masked_attributes import MaskedAttributeLoss
from recsys.encoder.objectives.teacher import DistillationLoss, similarity_distribution_loss
from recsys.encoder.product_encoder import ProductEncoder
from recsys.encoder.training import distillation as distill
from recsys.encoder.training import finetune
from recsys.encoder.training.finetune import ClassificationHeads
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.train import train_products
from recsys.encoder.training.transfer import Transfer
from recsys.errors import InterruptedRunError, ModelFolderError
from tests.encoder import shops
from tests.encoder.training.test_train import interrupt

EVERY = np.arange(48)


def other_shop() -> Catalogue:
    """A shop with other words, brands and colours, some of them common, and another number of prices."""
    old = shops.catalogue(36, seed=4)
    frame = old.frame.with_columns(
        pl.col("title").str.replace("boots", "sandals"),
        pl.col("brand").str.replace("Brand1", "House7"),
        pl.col("attributes.colour").str.replace("red", "crimson"),
        pl.when(pl.int_range(36) % 2 == 0).then(10.0).otherwise(20.0).alias("price"),
        pl.Series("attributes.material", [["wool", "silk"][i % 2] for i in range(36)]),
    ).drop("attributes.fits")
    return replace(old, frame=frame)


def learnt(
    folder: Path, course: TrainingPlan = DEFAULT_PLAN, *, encoder: EncoderSettings = shops.ENCODER, **changed: object
) -> Model:
    return train_products(
        shops.catalogue(),
        shops.interactions(),
        encoder=encoder,
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING.model_copy(update={"epochs": 1, **changed}),
        folder=folder,
        resume=bool(changed.pop("resume", False)),
        progress=False,
        plan=course,
    )


def colours(labelled: int) -> Labels:
    """The colour of the first products."""
    targets = np.full((48, 1), -1)
    targets[:labelled, 0] = np.arange(labelled) % 4
    return Labels(("colour",), (tuple(shops.COLOURS),), targets)


def right(model: Model, heads: ClassificationHeads, rows: np.ndarray) -> float:
    guess = finetune.predict_labels(model, shops.catalogue(), heads)["value"].to_numpy()
    return float(np.mean(guess[rows] == np.array(list(shops.COLOURS))[rows % 4]))


def test_the_same_shop_takes_over_everything_but_the_first_guess(products: Model) -> None:
    start = Transfer(products, shops.ENCODER)
    model = start.create_encoder(shops.catalogue(), shops.ENCODER)
    held = products.product_encoder.state_dict()
    assert all(
        torch.equal(value, held[name]) for name, value in model.state_dict().items() if "first_guess" not in name
    )
    assert all(each.copied == each.total > 0 for each in start.report if each.part != "image")
    again = Model(product_encoder=model, user_encoder=None, settings=shops.ENCODER)
    known = [each.encode(shops.catalogue(), EVERY, modalities=["text", "attributes"]) for each in (again, products)]
    assert np.array_equal(*known)


def test_another_shop_takes_over_what_both_know(products: Model) -> None:
    start, catalogue = Transfer(products, shops.ENCODER), other_shop()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = start.create_encoder(catalogue, shops.ENCODER)
        torch.manual_seed(5)
        fresh = ProductEncoder.fit(catalogue, shops.ENCODER)
    old = products.product_encoder
    for name, value in model.state_dict().items():
        if name.startswith(("text.", "image.", "blocks.", "project.", "attributes.concealed", "norm.")):
            assert torch.equal(value, old.state_dict()[name]) != ("first_guess" in name), name
    assert model.text.token_ids(["red boots 靴子"]) == old.text.token_ids(["red boots 靴子"])

    def word(field: ProductEncoder, text: str) -> torch.Tensor:
        (number,) = field.words.token_ids([text])
        return field.words.embedding.weight[number]

    shared = set(model.words.vocabulary) & set(old.words.vocabulary)
    ours, begun, held = (
        torch.stack([word(each, text).detach() for text in sorted(shared)]) for each in (model, fresh, old)
    )
    assert "dress" in shared
    torch.testing.assert_close(ours @ ours.T, begun @ begun.T, atol=1e-4, rtol=1e-3)  # turned as a whole
    assert F.cosine_similarity(ours, held).mean() > F.cosine_similarity(begun, held).mean() + 0.3
    assert torch.equal(word(model, "neverseen"), word(old, "neverseen"))
    told = ("shares", "exactness", "glanced")  # how much each modality tells is the shop's own
    assert all(torch.equal(getattr(model, name), getattr(fresh, name)) for name in told)
    assert not any(torch.equal(getattr(model, name), getattr(old, name)) for name in told)
    assert model.words.idf != old.words.idf
    table, theirs = model.attributes, old.attributes
    x, y = (field.read(pl.DataFrame({"attributes.colour": ["green", "crimson", None]})) for field in (table, theirs))
    at = [[each.name for each in field.categorical_features].index("attributes.colour") for field in (table, theirs)]
    ours, other = table(x).x[:, at[0]], theirs(y).x[:, at[1]]
    assert torch.equal(ours[[0, 2]], other[[0, 2]]) and not torch.equal(ours[1], other[1])
    assert table.numeric_features[0].size < theirs.numeric_features[0].size and not torch.equal(
        table.absent, theirs.absent
    )
    taken = {(each.part, each.unit): (each.copied, each.total) for each in start.report}
    assert taken["words", "words"] == (len(shared), len(model.words.vocabulary)) and len(shared) < len(
        model.words.vocabulary
    )
    assert taken["text", "weights"][0] == taken["text", "weights"][1]
    assert 0 < taken["attributes", "weights"][0] < taken["attributes", "weights"][1]
    known = {(f.name, value) for f in table.categorical_features for value in f.values}
    both = known & {(f.name, value) for f in theirs.categorical_features for value in f.values}
    assert taken["attributes", "values"] == (len(both), len(known))


def test_an_earlier_model_of_the_shop_keeps_its_words_when_some_are_new(products: Model) -> None:
    old, catalogue = products.product_encoder, shops.catalogue()
    titles = catalogue.frame["title"].to_list()
    frame = catalogue.frame.with_columns(
        pl.Series("title", [*titles[:-2], *(f"{title} moccasin" for title in titles[-2:])])
    )
    model = Transfer(products, shops.ENCODER).create_encoder(replace(catalogue, frame=frame), shops.ENCODER)
    shared, new = (
        set(model.words.vocabulary) & set(old.words.vocabulary),
        set(model.words.vocabulary) - set(old.words.vocabulary),
    )
    assert "moccasin" in new
    for text in shared:
        (here,), (there,) = model.words.token_ids([text]), old.words.token_ids([text])
        assert torch.equal(model.words.embedding.weight[here], old.words.embedding.weight[there])
    assert torch.equal(model.shares, old.shares) and torch.equal(model.exactness, old.exactness)


def test_longer_texts_take_over_the_places_both_have(products: Model) -> None:
    longer = shops.ENCODER.model_copy(update={"text_tokens": 16, "modality_dropout": 0.1, "user_layers": 1})
    model = Transfer(products, longer).create_encoder(shops.catalogue(), longer)
    assert (
        torch.equal(model.text.tower.places[:12], products.product_encoder.text.tower.places)
        and not model.text.tower.places[12:].any()
    )


@pytest.mark.parametrize("changed", [{"dim": 8}, {"width": 32}, {"heads": 4}, {"text_layers": 2}, {"fusion_layers": 1}])
def test_other_sizes_are_refused(products: Model, changed: dict[str, int]) -> None:
    ((name, value),) = changed.items()
    with pytest.raises(ModelFolderError, match=rf"{name} is \d+ there and {value} here.*--distill"):
        Transfer(products, shops.ENCODER.model_copy(update=changed))


def test_a_model_without_pictures_leaves_the_first_guess_to_the_new_shop(products: Model) -> None:
    blind = ProductEncoder.fit(shops.catalogue(), shops.ENCODER)
    torch.nn.init.zeros_(blind.image.first_guess.weight)
    source = Model(product_encoder=blind, user_encoder=None, settings=shops.ENCODER)
    model = Transfer(source, shops.ENCODER).create_encoder(shops.catalogue(), shops.ENCODER)
    assert model.image.first_guess.weight.any()


def test_a_transferred_model_starts_with_a_lower_loss(labelled: tuple[Model, ClassificationHeads]) -> None:
    products, catalogue = labelled[0], other_shop()
    losses = []
    for begin in (Transfer(products, shops.ENCODER).create_encoder, ProductEncoder.fit):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = begin(catalogue, shops.ENCODER)
        batches = ProductBatchLoader(
            catalogue, model, CoPurchasePairs.from_interactions(shops.interactions(36)), batch_size=32, seed=0
        )
        with torch.no_grad():
            losses.append(
                [
                    float(
                        sum(ask(model, batches.get_batch(step), torch.Generator().manual_seed(0)) for step in range(3))
                    )
                    for ask in (ImageTextLoss(), MaskedAttributeLoss())
                ]
            )
    assert losses[0][0] < losses[1][0] and losses[0][1] < losses[1][1]


def test_labelled_products_come_often_and_all_others_too() -> None:
    model = ProductEncoder.fit(shops.catalogue(), shops.ENCODER)
    often = np.array([3, 7, 40])
    batches = ProductBatchLoader(
        shops.catalogue(),
        model,
        CoPurchasePairs.from_interactions(shops.interactions()),
        batch_size=16,
        seed=0,
        oversampled_rows=often,
    )
    anchors = np.concatenate([batches.get_batch(step).rows[:8] for step in range(10)])
    count = np.bincount(anchors, minlength=48)
    assert count.min() >= 1 and (count[often] >= 10).all() and count.sum() == 80
    few = ProductBatchLoader(
        shops.catalogue(),
        model,
        CoPurchasePairs.from_interactions(shops.interactions()),
        batch_size=16,
        seed=0,
        oversampled_rows=EVERY,
    )
    assert sorted(few.get_batch(0).rows[4:8]) == sorted(set(few.get_batch(0).rows[4:8]))


@pytest.fixture(scope="module")
def labelled(products: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ClassificationHeads]:
    """A model that went on with 20 labels."""
    heads = ClassificationHeads.from_labels(colours(20), 16)
    course = finetune.finetuning_plan(heads, colours(20), Transfer(products, shops.ENCODER).training_plan(), weight=1.0)
    return learnt(tmp_path_factory.mktemp("labelled"), course.with_schedule(epochs=12, learning_rate=5e-3)), heads


def test_labels_raise_accuracy_on_products_nobody_labelled(
    products: Model, labelled: tuple[Model, ClassificationHeads]
) -> None:
    model, heads = labelled
    rest = EVERY[20:]
    assert right(products, ClassificationHeads.from_labels(colours(20), 16), rest) < 0.5
    assert right(model, heads, rest) > 0.7
    assert "labels" in model.metrics and model.version != products.version


def test_the_guesses_are_a_frame_with_confidences(labelled: tuple[Model, ClassificationHeads]) -> None:
    model, heads = labelled
    catalogue = shops.catalogue()
    every = finetune.predict_labels(model, catalogue, heads)
    assert every.columns == ["product_id", "attribute", "value", "confidence"] and every.height == 48
    vectors = model.encode(catalogue, EVERY)
    weight, bias = (held.detach().numpy() for held in heads.objective.heads[0].parameters())
    logits = 4.0 * vectors @ weight.T + bias
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(every["confidence"].to_numpy(), share.max(1), rtol=1e-4)
    assert every["value"].to_list() == [list(shops.COLOURS)[at] for at in share.argmax(1)]
    assert every.equals(finetune.predict_labels(model, catalogue, heads, vectors=vectors))
    left = finetune.filter_unlabelled(every, colours(20))
    assert left["product_id"].to_list() == list(catalogue.ids.texts[20:])


def test_the_loss_of_labels_is_cross_entropy_and_supervised_contrast(products: Model) -> None:
    targets = np.full((48, 3), -1)
    targets[:6, 0], targets[3:30, 1] = np.arange(6) % 2, np.arange(27) % 3
    labels = Labels(("a", "b", "c"), (("x", "y"), ("x", "y", "z"), ("x", "y")), targets)
    heads = ClassificationHeads.from_labels(labels, 16).objective
    for weight in heads.parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(1))
    batches = ProductBatchLoader(
        shops.catalogue(),
        products.product_encoder,
        CoPurchasePairs.from_interactions(shops.interactions()),
        batch_size=32,
        seed=0,
    )
    batch = batches.get_batch(0)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        found = float(heads(products.product_encoder, batch, g))
        vectors = batch.encode_masked(products.product_encoder, g).embedding.vector.numpy()
    means = []
    for at in range(3):
        weight, bias = (held.detach().numpy() for held in heads.heads[at].parameters())
        held = np.flatnonzero(targets[batch.rows, at] >= 0)
        losses, contrasts = [], []
        for i in held:
            row = batch.rows[i]
            logits = weight @ (4.0 * vectors[i]) + bias
            losses.append(np.log(np.exp(logits).sum()) - logits[targets[row, at]])
            others = held[batch.rows[held] != row]
            near = np.exp(10 * vectors[others] @ vectors[i])
            like = targets[batch.rows[others], at] == targets[row, at]
            contrasts += [-np.log(near[like] / near.sum()).mean()] if like.any() else []
        means += [np.mean(losses) + 0.5 * np.mean(contrasts)] if losses else []
    assert len(means) == 2 and found == pytest.approx(np.mean(means), rel=1e-4)


def test_heads_start_as_a_logistic_regression_on_the_vectors_there_are(products: Model) -> None:
    targets = np.full((48, 2), -1)
    targets[:30, 0], targets[10:40, 1] = np.arange(30) % 4, np.arange(30) // 15
    labels = Labels(("colour", "half"), (tuple(shops.COLOURS), ("first", "second")), targets)
    heads, catalogue = ClassificationHeads.from_labels(labels, 16), shops.catalogue()
    start = Transfer(products, shops.ENCODER).training_plan()
    begun = finetune.finetuning_plan(heads, labels, start, weight=1.0).create_encoder(catalogue, shops.ENCODER)
    assert torch.equal(begun.project.weight, products.product_encoder.project.weight)
    vectors = products.encode(catalogue, EVERY)
    every = finetune.predict_labels(products, catalogue, heads)
    for at, name in enumerate(labels.names):
        held = targets[:, at] >= 0
        plain = LogisticRegression(C=10.0, max_iter=300).fit(vectors[held], targets[held, at])
        found = every.filter(pl.col("attribute") == name)
        np.testing.assert_allclose(found["confidence"], plain.predict_proba(vectors).max(1), rtol=5e-3)
        assert found["value"].to_list() == [labels.values[at][each] for each in plain.predict(vectors)]


def test_a_stopped_training_with_labels_goes_on_to_the_same_weights(
    products: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path, count: int = 20, *, resume: bool = False) -> tuple[Model, ClassificationHeads]:
        heads = ClassificationHeads.from_labels(colours(count), 16)
        start = Transfer(products, shops.ENCODER).training_plan()
        course = finetune.finetuning_plan(heads, colours(count), start, weight=1.0).with_schedule(epochs=1)
        return learnt(folder, course, resume=resume), heads

    whole, heads = trained(tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, ProductBatch, 1, signal.SIGTERM)
        with pytest.raises(InterruptedRunError):
            trained(tmp_path / "stopped")
    with pytest.raises(ModelFolderError, match=r"another training \(labels differ\)"):
        trained(tmp_path / "stopped", 21, resume=True)
    with pytest.raises(ModelFolderError, match="another training"):
        learnt(tmp_path / "stopped", resume=True)
    again, others = trained(tmp_path / "stopped", resume=True)
    assert again.serialize_weights() == whole.serialize_weights()
    catalogue = shops.catalogue()
    assert finetune.predict_labels(again, catalogue, others).equals(finetune.predict_labels(whole, catalogue, heads))


def test_relations_are_the_divergence_of_the_softmax_over_the_others() -> None:
    g = np.random.default_rng(0)

    def unit(rows: int, dim: int) -> np.ndarray:
        made = g.normal(size=(rows, dim))
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    student, keys, teacher = unit(5, 3), unit(5, 3), unit(5, 7)
    rows = np.array([0, 1, 2, 1, 4])
    total = 0.0
    for i in range(5):
        others = np.flatnonzero(rows != rows[i])
        p, q = (np.exp(10 * a[i] @ b[others].T) for a, b in ((teacher, teacher), (student, keys)))
        p, q = p / p.sum(), q / q.sum()
        total += float((p * np.log(p / q)).sum())
    held = [torch.from_numpy(each) for each in (student, keys, teacher)]
    same = torch.from_numpy(rows[:, None] == rows[None, :])
    found = similarity_distribution_loss((held[0], held[1]), (held[2], held[2]), same=same)
    assert float(found) == pytest.approx(total / 5, rel=1e-5)
    assert float(similarity_distribution_loss((held[2], held[2]), (held[2], held[2]), same=same)) == pytest.approx(
        0, abs=1e-7
    )


@pytest.mark.parametrize("dim", [8, 16])
def test_a_student_becomes_like_its_teacher(products: Model, tmp_path: Path, dim: int) -> None:
    """Another length of vectors: the same neighbours. The same length: the very vectors."""
    small = shops.ENCODER.model_copy(update={"dim": dim, "fusion_layers": 1})
    catalogue = shops.catalogue()
    wanted = products.encode(catalogue, EVERY)

    def likeness(model: Model) -> float:
        held = model.encode(catalogue, EVERY)
        if dim == 16:
            return float((held * wanted).sum(1).mean())
        above = np.triu_indices(48, 1)
        return float(np.corrcoef((held @ held.T)[above], (wanted @ wanted.T)[above])[0, 1])

    course = distill.distillation_plan(products, catalogue, weight=3.0)
    taught = learnt(tmp_path / "taught", course, encoder=small, epochs=6, learning_rate=5e-3)
    alone = learnt(tmp_path / "alone", encoder=small, epochs=6, learning_rate=5e-3)
    assert likeness(taught) > likeness(alone) + 0.05
    assert (
        distill.encoder_sizes(taught)[:4] == (dim, 16, 1, 1)
        and distill.encoder_sizes(taught)[4] < distill.encoder_sizes(products)[4]
    )
    assert "teacher" in taught.metrics


def test_a_batch_of_one_product_teaches_nothing(products: Model) -> None:
    catalogue = shops.catalogue()
    batches = ProductBatchLoader(
        catalogue,
        products.product_encoder,
        CoPurchasePairs.from_interactions(shops.interactions()),
        batch_size=16,
        seed=0,
    )
    batch = batches.get_batch(0)
    batch.rows = np.zeros_like(batch.rows)
    teacher = DistillationLoss(torch.from_numpy(products.encode(catalogue, EVERY)))
    with torch.no_grad():
        assert float(teacher(products.product_encoder, batch, torch.Generator().manual_seed(0))) == 0
