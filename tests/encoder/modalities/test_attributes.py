import numpy as np
import polars as pl
import pytest
import torch

from recsys.encoder.modalities.attributes import MISSING, UNKNOWN, AttributeEncoder, Feature, select_features
from tests.encoder.shops import catalogue


@pytest.fixture(scope="module")
def field() -> AttributeEncoder:
    torch.manual_seed(0)
    return AttributeEncoder(select_features(catalogue().frame, None), 16)


def test_features_are_chosen_from_what_the_columns_hold() -> None:
    n = 60
    frame = pl.DataFrame(
        {
            "brand": ["only"] * n,
            "category": ["a", "b"] * (n // 2),
            "price": np.arange(n) / 7,
            "attributes.code": [f"c{i}" for i in range(n)],
            "attributes.empty": pl.Series([None] * n, dtype=pl.String),
            "attributes.flag": [True, False] * (n // 2),
            "title": ["x", "y"] * (n // 2),
        }
    )
    assert [feature.name for feature in select_features(frame, None)] == ["category", "price", "attributes.flag"]
    assert [feature.name for feature in select_features(frame, ["category", "absent"])] == ["category"]
    assert select_features(frame.head(0), None) == []


def test_missing_unknown_and_several_values(field: AttributeEncoder) -> None:
    frame = pl.DataFrame(
        {
            "category": ["boots", "hat", None],
            "attributes.fits": ["summer | spring", "winter", None],
            "price": [10.0, None, float("inf")],
        }
    )
    x = field.read(frame)
    names = [feature.name for feature in field.categorical_features]
    category, fits = (x["values"][:, names.index(name)] for name in ("category", "attributes.fits"))
    assert category[:, 0].tolist()[1:] == [UNKNOWN, MISSING]
    assert (fits != MISSING).sum(1).tolist() == [2, 1, 0]
    assert field.known_mask(x)[:, -1].tolist() == [True, False, False]
    assert field.present(x).tolist() == [True, True, False]


def test_numbers_fill_the_bins_between_quantiles(field: AttributeEncoder) -> None:
    x = field.read(catalogue().frame)
    at = [feature.name for feature in field.numeric_features].index("price")
    scaled, bins = field._piecewise_linear(x, at), field._bins(x)[at]
    known = ~x["numbers"][:, at].isnan()
    order = x["numbers"][known, at].argsort()
    assert bool((bins[known][order].diff() >= 0).all())
    assert bool((scaled[known][order].sum(1).diff() >= 0).all())
    assert set(bins[~known].tolist()) == {0}
    assert int(bins.max()) == len(field.numeric_features[at].edges) - 1


def test_a_hidden_feature_shows_nothing_of_its_value(field: AttributeEncoder) -> None:
    frame = catalogue().frame.head(2)
    x, other = field.read(frame), field.read(frame.reverse())
    everything = torch.ones(2, len(field.features), dtype=torch.bool)
    assert torch.equal(field(x, everything).x, field(other, everything).x)
    assert not torch.equal(field(x).x, field(other).x)


def test_guesses_are_judged_on_hidden_known_features_only() -> None:
    field = AttributeEncoder([Feature("a", values=("x", "y")), Feature("n", edges=(0.0, 1.0, 2.0))], 4)
    x = {
        "values": torch.tensor([[[2, 0, 0, 0]], [[0, 0, 0, 0]]], dtype=torch.int32),
        "numbers": torch.tensor([[1.5], [0.5]]),
    }
    conceal = torch.tensor([[True, False], [True, True]])
    with torch.no_grad():
        field.guess.weight.zero_()
        field.guess.bias.copy_(torch.tensor([0.0, 0.0, 3.0, 0.0, 0.0, 2.0, 0.0]))
    first = -torch.tensor([0.0, 0.0, 3.0, 0.0]).log_softmax(0)[2]
    second = -torch.tensor([0.0, 2.0, 0.0]).log_softmax(0)[1]
    assert field.predict_masked(torch.zeros(2, 4), x, conceal).item() == pytest.approx(float(first + second) / 2)
    nothing = field.predict_masked(torch.zeros(2, 4), x, torch.zeros(2, 2, dtype=torch.bool))
    assert nothing.item() == 0
    nothing.backward()


def test_the_state_makes_the_same_field(field: AttributeEncoder) -> None:
    again = AttributeEncoder.from_state(field.state(), 16)
    again.load_state_dict(field.state_dict())
    frame = catalogue().frame
    assert torch.equal(field(field.read(frame)).x, again(again.read(frame)).x)


def test_a_shop_without_attributes_has_no_tokens() -> None:
    field = AttributeEncoder([], 16)
    x = field.read(catalogue().frame)
    assert field(x).x.shape == (48, 0, 16)
    assert not bool(field.present(x).any())
