"""`evaluate` on a small shop: ours sees nothing of the test, reports are as documented, bad input is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from recsys.config import EncoderSettings, EvaluateSettings, Settings, TrainingSettings
from recsys.data.dataset import Dataset
from recsys.data.id_map import IdMap
from recsys.data.interactions import Interactions
from recsys.errors import DataContractError, RecsysError, UsageError
from recsys.evaluate import leakage as leaks
from recsys.evaluate import registry as systems
from recsys.evaluate.backtest import METRIC_SCHEMA
from recsys.evaluate.training_view import TrainingView
from recsys.pipeline import evaluate as judgement
from recsys.pipeline import evaluate_leaks
from recsys.pipeline import evaluate_result as evidence
from recsys.pipeline.project import Project
from tests.recommend.shops import DAY, START, catalogue, events, interactions

N, USERS, DAYS = 40, 80, 6
CUT = START + 24 * DAY
PLAIN = ["popular", "item-item", "tf-idf"]
ENCODER = EncoderSettings(
    dim=16, width=16, heads=2, text_layers=1, fusion_layers=1, user_layers=1, text_tokens=16, vocabulary=400, history=8
)
TRAINING = TrainingSettings(
    epochs=1, user_epochs=1, min_steps=3, batch_size=32, user_batch_size=16, precision="fp32", device="cpu"
)


def dated(shop, new):
    """The last products of a shop created after the cut."""
    made = np.where(np.arange(len(shop)) < len(shop) - new, START - DAY, CUT + DAY)
    return dataclasses.replace(shop, frame=shop.frame.with_columns(pl.Series("created_at", made)))


SHOP = dated(catalogue(N), 2)


def log():
    """The events of a log of 30 days; the two newest products are bought on the last day alone."""
    old = interactions(users=USERS, items=N - 2)
    return Interactions.from_events(
        user=np.concatenate([old.user, [0, 1, 2]]),
        item=np.concatenate([old.item, [N - 1, N - 2, N - 1]]),
        time=np.concatenate([old.time, [START + 29 * DAY] * 3]),
        n_users=USERS,
        n_items=N,
    )


def bench_of(folder, shop=SHOP, known=None, **asked):
    given = {"test_days": DAYS, "bootstrap": 50, **asked}
    bench = Project(
        Settings(project=folder, encoder=ENCODER, training=TRAINING, evaluate=EvaluateSettings(**given)), writes=False
    )
    events_ = log() if known is None else known
    bench.__dict__["dataset"] = Dataset(shop, events_, IdMap(f"u{row}" for row in range(events_.n_users)), "f", {})
    return bench


def test_our_own_system_sees_nothing_of_what_is_held_back(tmp_path):
    bench = bench_of(tmp_path)
    held = judgement.split_interactions(bench, log())
    changed = leaks.perturb_holdout(SHOP, log(), held)
    assert "texts" in changed and held.cutoff == CUT
    some = held.cases.histories

    def past(world, train):
        past = TrainingView.from_catalogue(world.catalogue, train, now=CUT, cutoff=CUT)
        return past.with_candidates(leaks.visible_products(world.catalogue, held))

    def honest(world):
        return judgement.train_on_past(bench, past(world, world.interactions.split(CUT)[0]))

    def of_the_whole_log(world):
        return judgement.train_on_past(bench, past(world, world.interactions))

    def of_all_texts(world):
        known = past(world, world.interactions.split(CUT)[0])
        return judgement.train_on_past(bench, dataclasses.replace(known, known=np.ones(N, bool)))

    assert leaks.find_leaks(honest, changed, some) == []
    assert "events" in leaks.find_leaks(of_the_whole_log, changed, some)
    assert "texts" in leaks.find_leaks(of_all_texts, changed, some)


def test_a_product_created_after_the_cut_is_listed_by_what_it_is_like(tmp_path):
    bench = bench_of(tmp_path)
    held = judgement.split_interactions(bench, log())
    system = judgement.train_on_past(bench, judgement.create_training_view(bench, SHOP, held))
    found = system(held.cases.histories, N)
    assert np.isin([N - 2, N - 1], found).all() and found.shape == (len(held.cases), N)
    assert not list((tmp_path / "artifacts/evaluation").glob("*/*.safetensors"))


def test_the_report_for_programs_has_every_figure(tmp_path):
    report = judgement.run_evaluation(bench_of(tmp_path, sampled=5), check_leaks=True, output=tmp_path / "a/b.csv")
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    names = [row["system"] for row in document["rows"]]
    assert names == [*systems.BASELINES, "recsys"]
    assert {"ndcg@10", "hr@10", "map@12"} <= set(document["rows"][0])
    tables = document["tables"]
    assert "recsys" in tables["verdict"][0]["verdict"]
    assert {"all", "new_purchases", "new_products"} <= {row["slice"] for row in tables["by slice"]}
    assert "ndcg@10 (sampled 5)" in tables["among sampled negatives, all test users"][0]
    assert {row["noticed"] for row in tables["leak check: changes of what is held back"]} == {"nothing"}
    assert {row["other"] for row in tables["paired"]} == set(systems.BASELINES)
    figures = pl.read_csv(tmp_path / "a/b.csv")
    assert figures.columns == list(METRIC_SCHEMA) and figures.height == len(tables["by slice"])
    assert document["artifacts"]["figures"].endswith("b.csv") and document["counts"]["test_users"] > 10


def test_people_read_the_verdict_first(tmp_path):
    report = judgement.run_evaluation(
        bench_of(tmp_path, models=PLAIN), output=tmp_path / "f.parquet", all_figures=False
    )
    assert report.tables[0].columns == ("verdict",) and "NDCG@10" in report.tables[0].rows[0][0]
    assert [row[0] for row in report.tables[1].rows] == PLAIN
    by_slice = next(table for table in report.tables if table.name == "NDCG@10 by slice")
    assert by_slice.columns == ("slice", "users", *PLAIN) and by_slice.rows[0][0] == "all"
    assert pl.read_parquet(tmp_path / "f.parquet").schema == pl.Schema(METRIC_SCHEMA)
    assert not list((tmp_path / "artifacts").glob("*/*/"))  # without ours nothing is trained


def test_the_last_evaluation_is_kept_whole(tmp_path):
    bench = bench_of(tmp_path, models=PLAIN)
    assert evidence.load_last_evaluation(bench.settings) is None
    for _ in range(2):  # the second takes the place of the first
        report = judgement.run_evaluation(bench)
        kept = evidence.load_last_evaluation(bench.settings)
        assert kept.metadata["verdict"] == report.to_json()["tables"]["verdict"][0]["verdict"]
        assert (kept.metadata["models"], kept.metadata["run_id"], kept.metadata["test_days"]) == (PLAIN, None, DAYS)
        assert (
            kept.metadata["list_hash"] == bench.recommendation_settings_hash()
            and kept.metadata["data_fingerprint"] == "f"
        )
        assert len(list((tmp_path / "artifacts/evaluation").glob("*.parquet"))) == 2
        figures = kept.result.metrics.filter(pl.col("slice") == "all")
        assert set(figures["system"]) == set(PLAIN) and kept.result.comparisons.height


@pytest.mark.parametrize("split", ["last", "users"])
def test_the_other_splits_judge_ours_too(tmp_path, split):
    frame = judgement.evaluate_to_frame(bench_of(tmp_path, split=split, models=["recsys", "item-item"]))
    assert set(frame["system"]) == {"recsys", "item-item"}
    found = frame.filter((pl.col("metric") == "hr@10") & (pl.col("slice") == "all"))
    assert (found["value"] > 0).all() and found["users"].min() > 5
    if split == "users":  # of their distinct products the last: never a repeat
        new = frame.filter((pl.col("metric") == "hr@10") & (pl.col("slice") == "new_purchases"))
        assert new["users"].to_list() == found["users"].to_list()


@pytest.mark.parametrize("split", ["time", "last", "users"])
def test_the_leak_check_passes_for_each_split(tmp_path, split):
    report = judgement.run_evaluation(bench_of(tmp_path, split=split, models=[*systems.BASELINES]), check_leaks=True)
    (table,) = (table for table in report.tables if table.name.startswith("leak check"))
    assert [row[2] for row in table.rows] == ["nothing"] * len(systems.BASELINES)


def test_a_leak_stops_the_comparison(tmp_path, monkeypatch):
    again = evaluate_leaks._split_again
    whole = lambda bench, world, held: dataclasses.replace(again(bench, world, held), train=world.interactions)  # noqa: E731
    monkeypatch.setattr(evaluate_leaks, "_split_again", whole)
    with pytest.raises(RecsysError, match=r"see what is held back: popular \(events.*item-item"):
        judgement.run_evaluation(bench_of(tmp_path, models=PLAIN), check_leaks=True)


def test_wrong_calls_are_refused_before_anything_is_loaded(tmp_path):
    bench = bench_of(tmp_path, models=["popular", "recsis"])
    del bench.__dict__["dataset"]
    with pytest.raises(UsageError, match="did you mean 'recsys'"):
        judgement.run_evaluation(bench)
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        judgement.run_evaluation(bench, output=tmp_path / "figures.xlsx")


def test_all_users_cold(tmp_path):
    early = [(user, (user + day) % N, day) for user in range(40) for day in (0, 1)]
    rows = early + [(user, user % 7, 29) for user in range(40, USERS)]
    bench = bench_of(tmp_path, known=events(rows, n_users=USERS, n_items=N), models=[*systems.BASELINES, "recsys"])
    frame = judgement.evaluate_to_frame(bench)
    assert {"all", "no_history", "new_purchases"} <= set(frame["slice"]) and "with_history" not in set(frame["slice"])
    value = dict(frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "coverage@12")).select(
        "system", "value").rows())  # fmt: skip
    assert value["popular"] > 0 and value["recsys"] > 0 and value["item-item"] == value["als"] == 0


def test_one_product(tmp_path):
    rows = [(user, 0, day) for user in range(12) for day in (0, 10 + user % 3, 29)]
    shop = catalogue(1)
    bench = bench_of(tmp_path, shop, events(rows, n_users=12, n_items=1), models=[*systems.BASELINES, "recsys"])
    frame = judgement.evaluate_to_frame(bench)
    hit = dict(frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "hr@10")).select(
        "system", "value").rows())  # fmt: skip
    assert hit["repurchase"] == 1 and hit["popular"] == 0 and set(hit) == {*systems.BASELINES, "recsys"}


@pytest.mark.parametrize(
    ("rows", "asked", "error", "said"),
    [
        ([(0, 1, 0), (1, 2, 29, 2)], {}, UsageError, "from the cut"),
        ([(0, 1, 3), (1, 2, 3), (0, 2, 3)], {}, UsageError, "before the cut"),
        ([(0, 1, 3), (1, 2, 3)], {"split": "last"}, UsageError, "earlier event"),
        ([(0, 1, 3), (0, 2, 4)], {"split": "users"}, UsageError, "only 1 have two"),
        ([], {}, DataContractError, "no events"),
        ([(0, 1, 1, 2), (1, 2, 2, 2), (2, 1, 29, 2)], {}, UsageError, r"set \[evaluate\] target = \"view\""),
    ],
)
def test_logs_that_cannot_be_judged_are_refused_in_one_line(tmp_path, rows, asked, error, said):
    known = events(rows or [(0, 0, 0)], n_users=USERS, n_items=N)
    bench = bench_of(tmp_path, known=known if rows else known.where(np.zeros(1, bool)), **asked)
    with pytest.raises(error, match=said) as caught:
        judgement.run_evaluation(bench)
    assert "\n" not in str(caught.value)


def test_one_test_user_is_enough_for_figures_but_not_for_a_verdict(tmp_path):
    rows = [(user, user % 9, 0) for user in range(30)] + [(0, 3, 29)]
    report = judgement.run_evaluation(bench_of(tmp_path, known=events(rows, n_users=USERS, n_items=N), models=PLAIN))
    (row,) = (table.rows[0][0] for table in report.tables if table.name == "verdict")
    assert row.startswith("no difference can be shown")
