from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Images
from recsys.data.holdout import HoldoutCases
from recsys.data.id_map import IdMap
from recsys.evaluate.backtest import COMPARISON_SCHEMA, METRIC_SCHEMA, Evaluator, backtest
from recsys.evaluate.slices import create_slices, new_product_mask, purchased_products
from tests.recommend.shops import START, catalogue, events, histories

N = 8
SHOP = dataclasses.replace(
    catalogue(N), images=Images(np.zeros((1, 3, 2, 2), np.uint8), np.where(np.arange(N) < 4, 0, -1))
)
TRAIN = events([(0, 0, 0), (1, 0, 1), (2, 0, 2), (0, 1, 0), (1, 5, 0), (2, 5, 1)], n_users=3, n_items=N)
CASES = HoldoutCases(
    histories([[], [0], [0, 1, 2], list(range(8)) + [0, 1, 2]]),
    (np.array([0]), np.array([1, 7]), np.array([5]), np.array([7])),
    START,
)


def system(*lists, cases=CASES):
    """Lists for the users of some cases, who are told apart by their histories."""
    known = {tuple(row[row >= 0]): items for row, items in zip(cases.histories.items, lists, strict=True)}
    return lambda given, k: np.array([(list(known[tuple(row[row >= 0])]) + [-1] * k)[:k] for row in given.items])


def test_slices_part_users_and_targets():
    held = {
        part.name: (part.rows.tolist(), [t.tolist() for t in part.targets])
        for part in create_slices(CASES, SHOP, TRAIN)
    }
    assert held == {
        "all": ([0, 1, 2, 3], [[0], [1, 7], [5], [7]]),
        "new_purchases": ([0, 1, 2], [[0], [1, 7], [5]]),
        "with_history": ([1, 2, 3], [[1, 7], [5], [7]]),
        "no_history": ([0], [[0]]),
        "history_1_2": ([1], [[1, 7]]),
        "history_3_9": ([2, 3], [[5], [7]]),
        "unseen_products": ([1, 3], [[7], [7]]),
        "rare_products": ([1, 2], [[1], [5]]),
        "common_products": ([0], [[0]]),
        "pictured_products": ([0, 1], [[0], [1]]),
        "unpictured_products": ([1, 2, 3], [[7], [5], [7]]),
    }


def test_the_frame_has_every_system_slice_and_metric():
    perfect, empty = system([0], [7, 1], [5], [7]), system([], [], [], [])
    frame = backtest(CASES, {"perfect": perfect, "empty": empty}, catalogue=SHOP, train=TRAIN, k=3, samples=50)
    assert frame.schema == pl.Schema(METRIC_SCHEMA)
    assert frame["system"].unique(maintain_order=True).to_list() == ["perfect", "empty"]
    kinds = ["ndcg@10", "hr@10", "mrr@10", "map@3", "recall@3", "precision@3", "debiased_recall@3"]
    judged = frame.filter(pl.col("metric").is_in(kinds))
    looks = {"novelty@3", "category_calibration@3", "price_calibration@3", "coverage@3", "gini@3"}
    rest = frame.filter(~pl.col("metric").is_in(kinds))
    assert set(rest["metric"]) == looks and set(rest["slice"]) == {"all"}
    right = judged.filter(~pl.col("metric").str.contains("precision|debiased"))
    own = right.filter((pl.col("system") == "perfect") & ~pl.col("slice").is_in(["unseen_products", "rare_products"]))
    names = ["all", "new_purchases", "with_history", "no_history", "history_1_2", "history_3_9"]
    whole = own.filter(pl.col("slice").is_in(names))
    # the fourth user buys product 7 again: perfect with repeats, and without them nobody asks
    assert (whole["value"] == 1).all() and (whole["low"] == 1).all() and (whole["high"] == 1).all()
    assert (judged.filter(pl.col("system") == "empty")["value"] == 0).all()
    assert judged.filter(pl.col("slice") == "with_history")["users"].unique().to_list() == [3]


def value(frame, metric, part="all"):
    return frame.filter((pl.col("metric") == metric) & (pl.col("slice") == part))["value"].item()


def test_a_slice_by_product_judges_by_those_targets_alone():
    frame = backtest(CASES, {"one": system([3], [1, 7], [3], [3])}, catalogue=SHOP, train=TRAIN, k=3, samples=0)
    # product 7 stands second for the first user who bought it, and nowhere for the other
    assert value(frame, "ndcg@10", "unseen_products") == pytest.approx(0.5 / math.log2(3))
    assert value(frame, "map@3", "unseen_products") == pytest.approx(0.25)
    assert value(frame, "ndcg@10", "rare_products") == pytest.approx(0.5)
    assert frame.filter(pl.col("metric") == "ndcg@10")["low"].is_nan().all()


def test_coverage_counts_products_listed_among_those_sold():
    frame = backtest(CASES, {"one": system([3, 1], [1, 7], [3], [])}, catalogue=SHOP, train=TRAIN, k=3, samples=0)
    assert value(frame, "coverage@3") == pytest.approx(3 / 8)


def test_systems_are_asked_once_and_again_where_lists_name_what_was_bought():
    asked = []

    def noting(histories, k):
        asked.append((len(histories), k))
        return np.tile(np.arange(k), (len(histories), 1)) % 100

    slim = HoldoutCases(histories([[], [50]]), (np.array([0]), np.array([1])), START)
    backtest(slim, {"one": noting}, catalogue=catalogue(100), train=events([(0, 0, 0)], n_users=1, n_items=100))
    assert asked == [(2, 12)]
    asked.clear()
    met = HoldoutCases(histories([[], [3, 50]]), (np.array([0]), np.array([12])), START)
    frame = backtest(met, {"one": noting}, catalogue=catalogue(100), train=events([(0, 0, 0)], n_users=1, n_items=100))
    assert asked == [(2, 12), (1, 14)]
    # product 12 stands in place 13, in place 12 once product 3 is taken out
    assert value(frame, "recall@12") == 0.5 and value(frame, "recall@12", "new_purchases") == 1


def test_lists_are_long_enough_for_every_metric():
    asked = []

    def noting(histories, k):
        asked.append((len(histories), k))
        return np.full((len(histories), k), -1, np.int64)

    backtest(CASES, {"one": noting}, catalogue=SHOP, train=TRAIN, k=3, samples=0)
    backtest(CASES, {"one": noting}, catalogue=SHOP, train=TRAIN, k=15, samples=0)
    assert asked == [(4, 10), (4, 15)]


def test_repeat_purchases_are_counted_or_not():
    again = HoldoutCases(histories([[4, 2], [1]]), (np.array([2]), np.array([1, 3])), START)
    repeats = system([2, 4], [1, 3], cases=again)
    frame = backtest(again, {"one": repeats}, catalogue=SHOP, train=TRAIN, k=3, samples=0)
    assert value(frame, "hr@10") == 1 and value(frame, "recall@3") == 1
    new = frame.filter((pl.col("slice") == "new_purchases") & (pl.col("metric") == "ndcg@10"))
    # the first user bought nothing new; of the second list product 1 is taken out, so product 3 comes first
    assert new["users"].item() == 1 and new["value"].item() == 1


def test_what_was_bought_before_the_history_begins_is_known_too():
    known = dataclasses.replace(histories([[5]]), users=np.array([0]))
    assert [own.tolist() for own in purchased_products(HoldoutCases(known, (np.array([1]),), START), TRAIN)] == [
        [0, 1, 5]
    ]
    looked = histories([[5, 6]], kinds=[[2, 0]])
    assert [own.tolist() for own in purchased_products(HoldoutCases(looked, (np.array([1]),), START), TRAIN)] == [[6]]


def test_products_are_new_by_their_date_or_without_one_by_their_first_event():
    made = [START - 1.0, START + 0.0, None, None, START + 5.0, None, None, None]
    dated = dataclasses.replace(SHOP, frame=SHOP.frame.with_columns(pl.Series("created_at", made)))
    # bought before: 0, 1, 5
    assert np.flatnonzero(new_product_mask(dated, TRAIN, START)).tolist() == [1, 2, 3, 4, 6, 7]
    assert np.flatnonzero(new_product_mask(SHOP, TRAIN, START)).tolist() == [2, 3, 4, 6, 7]
    held = {part.name: part.rows.tolist() for part in create_slices(CASES, dated, TRAIN, cutoff=START)}
    assert held["new_products"] == [1, 3] and "new_products" not in {p.name for p in create_slices(CASES, dated, TRAIN)}


def test_pairs_compare_one_system_with_all_others():
    three = {"bad": system([], [], [], []), "recsys": system([0], [7], [5], [7]), "half": system([0], [3], [5], [3])}
    paired = Evaluator(SHOP, TRAIN, k=3, samples=200).evaluate(CASES, three).comparisons
    assert paired.schema == pl.Schema(COMPARISON_SCHEMA)
    some = paired.filter((pl.col("metric") == "hr@10") & (pl.col("slice") == "all"))
    assert some.select("system", "other", "difference", "users").rows() == [
        ("recsys", "bad", 1.0, 4),
        ("recsys", "half", 0.5, 4),
    ]
    assert set(paired["slice"]) == {"all", "new_purchases"} and set(paired["metric"]) == {"ndcg@10", "hr@10", "map@3"}
    assert ((paired["low"] <= paired["difference"]) & (paired["difference"] <= paired["high"])).all()
    best = (
        Evaluator(SHOP, TRAIN, k=3, samples=20)
        .evaluate(CASES, {"bad": three["bad"], "half": three["half"]})
        .comparisons
    )
    assert set(best["system"]) == {"half"} and set(best["other"]) == {"bad"}
    alone = Evaluator(SHOP, TRAIN, k=3, samples=20).evaluate(CASES, {"bad": three["bad"]}).comparisons
    assert alone.height == 0


def test_sampled_figures_are_labelled_and_stand_beside_the_full_ones():
    reverse = lambda given, k: np.tile(np.arange(N)[::-1][:k], (len(given), 1))  # noqa: E731
    frame = Evaluator(SHOP, TRAIN, k=3, samples=20, n_negatives=2).evaluate(CASES, {"one": reverse}).metrics
    every = set(frame["metric"])
    labelled = {name for name in every if "sampled" in name}
    assert {name.removesuffix(" (sampled 2)") for name in labelled} == {
        *("ndcg@10", "hr@10", "mrr@10", "map@3", "recall@3", "precision@3", "debiased_recall@3")
    }
    assert {name.removesuffix(" (sampled 2)") for name in labelled} < every
    assert value(frame, "mrr@10 (sampled 2)") > value(frame, "mrr@10")


def test_diversity_is_there_when_the_content_is():
    content = np.eye(N, dtype=np.float32)
    frame = (
        Evaluator(SHOP, TRAIN, k=3, samples=0, content=content)
        .evaluate(CASES, {"one": system([0, 1], [], [], [])})
        .metrics
    )
    row = frame.filter(pl.col("metric") == "diversity@3").row(0, named=True)
    assert row["value"] == pytest.approx(1) and row["users"] == 1


def test_one_product_is_judged_too():
    shop = dataclasses.replace(catalogue(1), ids=IdMap(["only"]))
    cases = HoldoutCases(histories([[], [0]]), (np.array([0]), np.array([0])), START)
    train = events([(0, 0, 0)], n_users=1, n_items=1)
    frame = backtest(cases, {"one": lambda h, k: np.zeros((len(h), 1), np.int64)}, catalogue=shop, train=train)
    assert value(frame, "hr@10") == 1 and value(frame, "hr@10", "new_purchases") == 1
    assert value(frame, "coverage@12") == 1
