from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Pictures
from recsys.evaluate.backtest import SCHEMA, backtest, slices
from recsys.recommend.cases import Cases
from tests.recommend.shops import START, catalogue, events, histories

N = 8
SHOP = dataclasses.replace(
    catalogue(N), pictures=Pictures(np.zeros((1, 3, 2, 2), np.uint8), np.where(np.arange(N) < 4, 0, -1))
)
TRAIN = events([(0, 0, 0), (1, 0, 1), (2, 0, 2), (0, 1, 0), (1, 5, 0), (2, 5, 1)], n_users=3, n_items=N)
CASES = Cases(
    histories([[], [0], [0, 1, 2], list(range(8)) + [0, 1, 2]]),
    (np.array([0]), np.array([1, 7]), np.array([5]), np.array([7])),
    START,
)


def system(*lists):
    return lambda histories, k: np.array([(list(items) + [-1] * k)[:k] for items in lists], np.int64)


def test_slices_part_users_and_targets():
    held = {part.name: (part.rows.tolist(), [t.tolist() for t in part.targets]) for part in slices(CASES, SHOP, TRAIN)}
    assert held == {
        "all": ([0, 1, 2, 3], [[0], [1, 7], [5], [7]]),
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
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame["system"].unique(maintain_order=True).to_list() == ["perfect", "empty"]
    judged = frame.filter(~pl.col("metric").str.starts_with("coverage"))
    assert set(judged["metric"]) == {"ndcg@10", "hr@10", "map@3"}
    own = judged.filter((pl.col("system") == "perfect") & ~pl.col("slice").is_in(["unseen_products", "rare_products"]))
    whole = own.filter(pl.col("slice").is_in(["all", "with_history", "no_history", "history_1_2", "history_3_9"]))
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


def test_systems_are_asked_once_for_lists_that_serve_every_metric():
    asked = []

    def noting(histories, k):
        asked.append((len(histories), k))
        return np.full((len(histories), k), -1, np.int64)

    backtest(CASES, {"one": noting}, catalogue=SHOP, train=TRAIN, k=3, samples=0)
    backtest(CASES, {"one": noting}, catalogue=SHOP, train=TRAIN, k=15, samples=0)
    assert asked == [(4, 10), (4, 15)]
