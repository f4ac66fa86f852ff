import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.catalogue import Catalogue, Images
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import MODALITIES, ProductEncoder
from recsys.errors import UsageError
from tests.encoder import shops


def test_vectors_have_unit_length_whatever_is_missing(products: Model) -> None:
    catalogue, rows = shops.catalogue(), np.arange(48)
    for some in (None, ["text"], ["image"], ["attributes"], ["image", "text"]):
        vectors = products.encode(catalogue, rows, modalities=some)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_what_a_product_lacks_is_not_there_instead_of_zero(products: Model) -> None:
    catalogue = shops.catalogue()
    bare = np.flatnonzero(~catalogue.images.present)
    by_all, by_rest = (
        products.encode(catalogue, bare),
        products.encode(catalogue, bare, modalities=["text", "attributes"]),
    )
    np.testing.assert_allclose(by_all, by_rest, atol=1e-5)
    black = np.zeros((len(catalogue), 3, 16, 16), np.uint8)
    zero_filled = dataclasses.replace(catalogue, images=Images(black, np.arange(48)))
    assert np.abs(products.encode(zero_filled, bare) - by_rest).max() > 1e-3


def test_a_product_of_which_nothing_is_known_has_a_vector(products: Model) -> None:
    frame = shops.catalogue().frame.head(2)
    empty = frame.select(
        pl.lit(None, dtype=frame[name].dtype).alias(name) if name != "product_id" else pl.col(name)
        for name in frame.columns
    )
    nothing = Catalogue(shops.catalogue(2).ids, empty, np.ones(2, bool), Images.empty(2, 16))
    vectors = products.encode(nothing, np.arange(2))
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_a_vector_does_not_depend_on_the_company_or_the_order(products: Model) -> None:
    catalogue, rows = shops.catalogue(), np.random.default_rng(0).permutation(48)
    every = products.encode(catalogue, np.arange(48))
    np.testing.assert_allclose(products.encode(catalogue, rows, batch_size=5), every[rows], atol=1e-5)
    assert products.encode(catalogue, np.zeros(0, np.int64)).shape == (0, 16)


def test_only_the_named_columns_and_the_picture_matter(products: Model) -> None:
    catalogue, rows = shops.catalogue(), np.arange(48)
    before = products.encode(catalogue, rows)
    assert {"title", "description", "category", "price", "attributes.colour", "group_id", "image_hash"} <= set(
        products.columns
    )
    other = catalogue.frame.with_columns(pl.lit("x").alias("currency"), pl.lit(5).alias("attributes.new"))
    np.testing.assert_array_equal(products.encode(dataclasses.replace(catalogue, frame=other), rows), before)
    for name in ("title", "attributes.colour", "group_id"):
        changed = catalogue.frame.with_columns(pl.lit("green").alias(name))
        assert np.abs(products.encode(dataclasses.replace(catalogue, frame=changed), rows) - before).max() > 1e-4, name


def test_a_catalogue_without_some_columns_can_be_encoded(products: Model) -> None:
    catalogue = shops.catalogue()
    bare = dataclasses.replace(catalogue, frame=catalogue.frame.select("product_id", "title"))
    assert np.isfinite(products.encode(bare, np.arange(48))).all()


def test_views_of_one_modality_agree_with_typed_text_and_loose_pictures(products: Model) -> None:
    catalogue = shops.catalogue()
    rows = np.flatnonzero(catalogue.images.present & catalogue.frame["description"].is_null().to_numpy())[:5]
    rows = rows[catalogue.frame["title"].is_not_null().to_numpy()[rows]]
    titles = catalogue.frame["title"].gather(rows.tolist()).to_list()
    np.testing.assert_allclose(
        products.encode_text(titles), products.encode(catalogue, rows, modalities=["text"]), atol=1e-5
    )
    pixels = catalogue.images.take(rows)
    np.testing.assert_allclose(
        products.encode_images(pixels), products.encode(catalogue, rows, modalities=["image"]), atol=1e-5
    )
    assert products.encode_text([]).shape == (0, 16)
    assert np.isfinite(products.encode_text(["", "靴子", "unheard-of"])).all()


def test_the_vector_of_all_is_the_sum_of_what_each_modality_says_alone(products: Model) -> None:
    catalogue, model = shops.catalogue(), products.product_encoder
    rows = np.arange(12)
    x = model.read(catalogue, rows)
    present = {name: held.numpy() for name, held in model.present(x).items()}
    assert not all(held.all() for held in present.values())
    *shares, joint = model.shares.tolist()
    with torch.inference_mode():
        wanted = joint * model.fuse(model.modality_tokens(x), None).vector.numpy()
    for name, share in zip(MODALITIES, shares, strict=True):
        wanted += share * present[name][:, None] * products.encode(catalogue, rows, modalities=[name])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(products.encode(catalogue, rows), wanted, atol=1e-5)


def test_an_unknown_modality_is_refused_with_the_known_ones(products: Model) -> None:
    with pytest.raises(UsageError, match=r"'images'.*text, image, attributes; did you mean 'image'"):
        products.encode(shops.catalogue(), np.arange(3), modalities=["images"])
    with pytest.raises(UsageError, match="no modality"):
        products.encode(shops.catalogue(), np.arange(3), modalities=[])


def test_hiding_leaves_every_product_something() -> None:
    from recsys.encoder.batches.products import drop_modalities

    g = torch.Generator().manual_seed(0)
    present = {name: torch.rand(500, generator=g) < 0.5 for name in MODALITIES}
    had = torch.stack(list(present.values()), 1)
    kept = torch.stack(list(drop_modalities(present, 0.9, g).values()), 1)
    assert bool((kept <= had).all())
    assert torch.equal(kept.any(1), had.any(1))
    assert int(kept.sum()) < 0.6 * int(had.sum())


def test_a_shop_with_nothing_but_titles_can_be_learnt() -> None:
    catalogue = shops.catalogue()
    bare = dataclasses.replace(
        catalogue,
        frame=catalogue.frame.select("product_id", "title", pl.lit(None, pl.String).alias("image_hash")),
        images=Images.empty(48, 16),
    )
    model = ProductEncoder.fit(bare, shops.ENCODER).eval()
    assert bool(torch.isfinite(model(model.read(bare, np.arange(48))).vector).all())
