"""A hidden column changes nothing: not through its tokens, not through its words, not through the text."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Catalogue
from recsys.encoder.model import Model
from recsys.encoder.product_encoder import ProductEncoder
from recsys.errors import UsageError
from tests.encoder import shops


def _with(catalogue: Catalogue, column: str, values: object) -> Catalogue:
    kind = catalogue.frame.schema[column]
    frame = catalogue.frame.with_columns(pl.Series(column, values, dtype=kind))
    return Catalogue(catalogue.ids, frame, catalogue.sellable.copy(), catalogue.images)


@pytest.mark.parametrize(
    ("column", "other"), [("attributes.colour", "red"), ("category", "boots"), ("group_id", "g0"), ("price", 3.0)]
)
def test_whatever_a_hidden_column_holds_the_vectors_are_the_same(products: Model, column: str, other: object) -> None:
    own = shops.catalogue()
    every = np.arange(len(own))
    changed = [_with(own, column, [other] * 48), _with(own, column, [None] * 48)]
    hidden = products.encode(own, every, hide=[column])
    for catalogue in changed:
        assert np.array_equal(products.encode(catalogue, every, hide=[column]), hidden)
        assert not np.allclose(products.encode(catalogue, every), products.encode(own, every), atol=1e-3)
    assert not np.allclose(hidden, products.encode(own, every), atol=1e-3)
    assert np.allclose(np.linalg.norm(hidden, axis=1), 1, atol=1e-5)


def test_a_hidden_text_is_not_read(products: Model) -> None:
    own = shops.catalogue()
    every = np.arange(len(own))
    hidden = products.encode(own, every, hide=["title", "description"])
    bare = _with(_with(own, "title", [None] * 48), "description", [None] * 48)
    assert np.array_equal(hidden, products.encode(bare, every))


def test_hidden_is_not_the_same_as_missing(products: Model) -> None:
    own = shops.catalogue()
    column = "attributes.colour"
    none = _with(own, column, [None] * 48)
    told = products.encode(none, np.arange(48))
    assert not np.allclose(told, products.encode(own, np.arange(48), hide=[column]), atol=1e-4)


def test_conceal_falls_on_the_features_named(products: Model) -> None:
    encoder: ProductEncoder = products.product_encoder
    x = encoder.read(shops.catalogue(), np.arange(3))["attributes"]
    order = [
        feature.name for feature in (*encoder.attributes.categorical_features, *encoder.attributes.numeric_features)
    ]
    mask = encoder.attributes.hidden_mask(x, {"price", "brand"})
    assert mask.shape == (3, len(order))
    assert [name for name, hidden in zip(order, mask[1].tolist(), strict=True) if hidden] == ["brand", "price"]


def test_nothing_hidden_is_as_before(products: Model) -> None:
    own = shops.catalogue()
    assert np.array_equal(products.encode(own, np.arange(48), hide=()), products.encode(own, np.arange(48)))


def test_a_column_that_is_not_there_cannot_be_hidden(products: Model) -> None:
    with pytest.raises(UsageError, match="no column 'colour' to hide"):
        products.encode(shops.catalogue(), np.arange(3), hide=["colour"])
