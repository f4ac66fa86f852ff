from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from recsys.config import EvaluateSettings
from recsys.errors import UsageError
from recsys.evaluate import linear_baselines as linear
from recsys.evaluate import registry as systems
from recsys.evaluate.training_view import TrainingView
from tests.recommend.shops import DAY, START, catalogue, events, histories, interactions

N = 40
PAST = TrainingView.from_catalogue(catalogue(N), interactions(items=N), now=START + 30 * DAY, cutoff=None)


def test_the_settings_compare_every_system_there_is():
    assert systems.resolve_names(EvaluateSettings().models) == [*systems.BASELINES, systems.OWN_SYSTEM]


def test_names_are_taken_once_and_unknown_ones_refused():
    assert systems.resolve_names([" als", "recsys", "als"]) == ["als", "recsys"]
    with pytest.raises(UsageError, match="unknown model 'item-iten'; did you mean 'item-item'"):
        systems.resolve_names(["item-iten"])
    with pytest.raises(UsageError, match="no model"):
        systems.resolve_names([" "])


@pytest.mark.parametrize("name", systems.BASELINES)
def test_every_system_lists_only_what_is_sold_and_to_the_cold_what_it_has(name):
    sellable = np.arange(N) % 3 > 0
    past = dataclasses.replace(PAST, catalogue=catalogue(N, sellable=sellable))
    shown, system = systems.create_baseline(name, past)
    found = system(histories([[0, 2, 4], []]), 10)
    assert shown == name and found.shape == (2, 10)
    listed = found[found >= 0]
    assert sellable[listed].all() and len(found[0][found[0] >= 0])
    own = set(found[0].tolist()) & {2, 4}
    assert own == ({2, 4} if "repurchase" in name else set())
    assert (found[1] >= 0).any() == ("popular" in name)


@pytest.mark.parametrize("name", systems.BASELINES)
def test_a_shop_of_one_product_and_no_text_is_no_trouble(name):
    shop = catalogue(1)
    shop = dataclasses.replace(shop, frame=shop.frame.with_columns(pl.lit(None, pl.String).alias("title")).drop(
        "attributes.colour"))  # fmt: skip
    past = TrainingView.from_catalogue(
        shop, events([(0, 0, 0), (1, 0, 1)], n_users=2, n_items=1), now=START + 2 * DAY, cutoff=None
    )
    found = systems.create_baseline(name, past)[1](histories([[0], []]), 5)
    assert found.shape == (2, 5) and set(found.ravel().tolist()) <= {-1, 0}


def test_ease_says_when_it_does_not_know_all_products(monkeypatch):
    monkeypatch.setattr(linear, "MAX_EASE_PRODUCTS", 3)
    assert systems.create_baseline("ease", PAST)[0] == "ease (3 most bought)"


def test_what_was_created_since_the_cut_is_not_there_unless_it_was_bought_before():
    shop, cut = catalogue(4, titles=["old hat", "new zzz", "early hat", "hat"]), START + 5 * DAY
    made = pl.Series("created_at", [START, cut, cut + 1, None])
    shop = dataclasses.replace(shop, frame=shop.frame.with_columns(made))
    train = events([(0, 0, 0), (1, 2, 1)], n_users=2, n_items=4)
    past = TrainingView.from_catalogue(shop, train, now=cut, cutoff=cut)
    assert past.known.tolist() == [True, False, True, True]
    older, moved = past.without_new_products()
    assert older.ids.texts == ("p0000", "p0002", "p0003") and moved.item.tolist() == [0, 1] and moved.n_items == 3
    assert older.frame["title"].to_list() == ["old hat", "early hat", "hat"]
    assert past.with_blank_new_texts().frame["title"].to_list() == ["old hat", None, "early hat", "hat"]
    assert past.with_blank_new_texts().ids.texts == shop.ids.texts
    whole = TrainingView.from_catalogue(shop, train, now=cut, cutoff=None)
    assert whole.known.all() and whole.without_new_products() == (whole.catalogue, train)
    assert whole.with_blank_new_texts() is whole.catalogue and whole.catalogue.frame is shop.frame
