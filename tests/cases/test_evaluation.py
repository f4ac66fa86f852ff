"""The evaluation decides nothing by what is held back, and judges any event type."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.data.dataset import load
from recsys.data.interactions import Histories
from recsys.evaluate import registry
from recsys.evaluate import training_view as views
from recsys.pipeline import evaluate_leaks
from recsys.pipeline.evaluate_systems import create_training_view, split_interactions, train_on_past
from recsys.pipeline.project import Project
from tests.cases.small_shops import day, open_shop, purchases

WORDS = ("red", "blue", "green", "black", "white"), ("shirt", "cup", "lamp", "shoe")
SETTINGS = {"evaluate.models": ["tf-idf", "popular"], "evaluate.test_days": 5, "evaluate.bootstrap": 0}


def titled(name, number, **more):
    return {"product_id": f"{name}{number:02d}", "title": f"{WORDS[0][number % 5]} {WORDS[1][number % 4]}", **more}


def shop_with_new_products(folder, bought_in_test, **more):
    """30 products, and 30 new ones without picture and availability; a few of these are bought, after the cutoff."""
    g = random.Random(13)
    products = [titled("p", i, available=True) for i in range(30)]
    products += [titled("new", i, available=None) for i in range(30)]
    rows = [(f"u{u:02d}", f"p{g.randrange(30):02d}", g.randrange(40)) for u in range(60) for _ in range(4)]
    rows += [(f"u{u:02d}", f"new{bought_in_test[u % len(bought_in_test)]:02d}", 50) for u in range(60)]
    return open_shop(folder, products, purchases(rows), {**SETTINGS, **more}, train=False)


def lists_of(folder, name, users, k=20):
    """The lists of some users by a system of the evaluation, as ids."""
    with Project(recsys.config.load(folder), writes=False) as project:
        held_out = split_interactions(project, project.dataset.interactions)
        view = create_training_view(project, project.dataset.catalogue, held_out)
        system = train_on_past(project, view) if name == "recsys" else registry.create_baseline(name, view)[1]
        rows = project.dataset.users.rows(users)
        lists = system(held_out.train.histories(rows, 50), k)
        return [list(project.dataset.catalogue.ids.ids(row[row >= 0])) for row in lists]


@pytest.mark.parametrize("name", ["tf-idf", "popular", "als", "recsys"])
def test_lists_do_not_depend_on_which_new_products_will_be_bought(tmp_path, name):
    users = [f"u{u:02d}" for u in range(20)]
    shop_with_new_products(tmp_path / "a", [0, 7, 12]).close()
    shop_with_new_products(tmp_path / "b", [1, 5, 20]).close()
    one, other = lists_of(tmp_path / "a", name, users), lists_of(tmp_path / "b", name, users)
    assert one == other
    assert not any(product.startswith("new") for row in one for product in row)


def test_purchases_of_what_could_not_be_listed_count_as_missed(tmp_path):
    frame = shop_with_new_products(tmp_path / "a", [0, 7, 12]).evaluate()
    found = frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "hr@10"))
    assert found["users"].to_list() == [60, 60] and found["value"].to_list() == [0.0, 0.0]


@pytest.mark.parametrize("models", [["tf-idf"], ["recsys"]])
def test_the_leak_check_finds_a_catalogue_made_of_the_whole_log(tmp_path, monkeypatch, models):
    folder = tmp_path / "a"
    shop_with_new_products(folder, [0, 7, 12], **{"evaluate.models": models}).close()
    with Project(recsys.config.load(folder), writes=False) as project:
        assert {row[2] for row in evaluate_leaks.check_leakage(project, models).rows} == {"nothing"}
        monkeypatch.setattr(views, "listed_without_events", lambda catalogue, _: np.ones(len(catalogue), np.bool_))
        with pytest.raises(recsys.RecsysError, match=rf"see what is held back: {models[0]} \(.*catalogue"):
            evaluate_leaks.check_leakage(project, models)


def test_availability_of_today_decides_nothing(tmp_path):
    g = random.Random(4)
    rows = [(f"u{u:02d}", f"p{g.randrange(12):02d}", g.randrange(20)) for u in range(40) for _ in range(4)]
    rows += [(f"u{u:02d}", "p03", 21) for u in range(40)]
    users = [f"u{u:02d}" for u in range(10)]
    settings = {**SETTINGS, "evaluate.test_days": 1}
    for name, sold_out in (("a", ()), ("b", (3, 4))):
        products = [titled("p", i, available=i not in sold_out) for i in range(12)]
        open_shop(tmp_path / name, products, purchases(rows), settings, train=False).close()
    one, other = (lists_of(tmp_path / name, "popular", users, 12) for name in ("a", "b"))
    assert one == other and any("p03" in row for row in one)


@pytest.mark.parametrize("target", ["view", "rating"])
def test_a_shop_without_purchases_is_judged_by_another_event_type(tmp_path, target):
    g = random.Random(2)
    products = [titled("p", i) for i in range(12)]
    rows = [(f"u{u:02d}", f"p{int(12 * g.random() ** 2):02d}", g.randrange(30)) for u in range(40) for _ in range(6)]
    events = purchases(rows, target)
    settings = {**SETTINGS, "evaluate.models": ["popular", "item-item", "ease", "recsys"]}
    shop = open_shop(tmp_path / "a", products, events, settings, train=False)
    with pytest.raises(recsys.RecsysError, match=rf'set \[evaluate\] target = "{target}"'):
        shop.evaluate()
    shop.close()
    frame = recsys.open(tmp_path / "a", settings={"evaluate.target": target}).evaluate()
    found = frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "hr@10"))
    assert (found["value"] > 0).all() and found["users"].min() > 5
    for split in ("last", "users"):
        settings = {"evaluate.target": target, "evaluate.split": split, "evaluate.models": ["popular", "item-item"]}
        frame = recsys.open(tmp_path / "a", settings=settings).evaluate()
        assert frame.filter(pl.col("metric") == "ndcg@10")["value"].max() > 0


def test_baselines_learn_from_the_target_type(tmp_path):
    """p00 is viewed by all, p01 bought by all: predicting views lists p00 first, predicting purchases p01."""
    products = [titled("p", i) for i in range(4)]
    events = [
        {"user_id": f"u{u}", "product_id": product, "event_type": kind, "occurred_at": day(number)}
        for u in range(8)
        for product, kind, number in (("p00", "view", 0), ("p01", "purchase", 1), (f"p0{2 + u % 2}", "view", 8))
    ]
    events += [{"user_id": "u0", "product_id": "p02", "event_type": "purchase", "occurred_at": day(8)}]
    open_shop(tmp_path / "a", products, events, {"evaluate.test_days": 1}, train=False).close()
    for target, first in (("view", "p00"), ("purchase", "p01")):
        with Project(recsys.config.load(tmp_path / "a", flags={"evaluate.target": target})) as project:
            held_out = split_interactions(project, project.dataset.interactions)
            view = create_training_view(project, project.dataset.catalogue, held_out)
            system = registry.create_baseline("popular", view)[1]
            nobody = Histories(np.array([-1]), np.array([[-1]]), np.array([[0]]), np.array([[0]], np.int8))
            assert project.dataset.catalogue.ids.ids(system(nobody, 1)[0]) == [first]
            assert len(held_out.cases) == (8 if target == "view" else 1)


def test_all_products_of_the_store_are_in_the_check(tmp_path):
    folder = tmp_path / "a"
    shop_with_new_products(folder, [0, 7, 12]).close()
    with Project(recsys.config.load(folder), writes=False) as project:
        assert len(project.dataset.catalogue) == 33
        assert len(evaluate_leaks._complete_dataset(project).catalogue) == 60
        everything = project.settings.data.model_copy(update={"catalogue": "all"})
        assert len(load(project.store.engine, everything, image_store=project.images).catalogue) == 60
