from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys.config import SOURCES

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "benchmarks" / "hm.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A shop of 40 articles and 250 customers in H&M's tables, with pictures of half of the articles."""
    folder, g = tmp_path_factory.mktemp("hm"), np.random.default_rng(0)
    ids = [f"0{row:09d}" for row in range(40)]
    kinds = [["red", "blue"][row % 2] + f" hat {row // 4}" for row in range(40)]
    pl.DataFrame(
        {
            "article_id": ids,
            "prod_name": kinds,
            "detail_desc": [f"a {kind}" for kind in kinds],
            "product_type_name": ["Hat"] * 40,
            "product_group_name": ["Accessories"] * 40,
            "product_code": [f"{row // 4:07d}" for row in range(40)],
            "colour_group_name": [["Red", "Blue"][row % 2] for row in range(40)],
        }
    ).write_parquet(folder / "articles.parquet")
    with zipfile.ZipFile(folder / "images.zip", "w") as album:
        for row in range(0, 40, 2):
            held = io.BytesIO()
            Image.fromarray(g.integers(0, 255, (20, 20, 3), np.uint8)).save(held, "PNG")
            album.writestr(f"{ids[row]}.jpg", held.getvalue())
    for name, first in (("early", 0), ("late", 150)):
        rows = []
        for user in range(first, first + (150 if name == "early" else 100)):
            own = np.arange(user % 2, 40, 2)
            for item in g.choice(own, 6):
                rows.append((date(2020, 9, 1) + timedelta(days=int(g.integers(20))), f"c{user:03d}", ids[item]))
        table = pl.DataFrame(rows, schema=["t_dat", "customer_id", "article_id"], orient="row")
        table.sort("t_dat", maintain_order=True).write_parquet(folder / f"{name}.parquet")
    return folder


def run(folder, *options):
    command = [sys.executable, str(SCRIPT), "--articles", str(folder / "articles.parquet"), "--images"]
    command += [str(folder / "images.zip"), "--quick", "--json", "--work", str(folder / "work"), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)


def test_a_time_split_ends_with_one_line_of_json(files):
    every = ["--transactions", str(files / "early.parquet"), str(files / "late.parquet")]
    done = run(files, *every, "--cut", "2020-09-18")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["benchmark"] == "hm" and last["quick"] is True
    own = {(row["slice"], row["metric"]): row for row in last["rows"] if row["system"] == "recsys"}
    whole = own["all", "ndcg@10"]
    assert 0 <= whole["low"] <= whole["value"] <= whole["high"] <= 1 and whole["value"] > 0
    assert {"hr@10", "map@12", "coverage@12"} <= {metric for _, metric in own}
    assert {"popular-7d", "repurchase", "item-item", "tf-idf"} <= {row["system"] for row in last["rows"]}
    assert last["ratios"] and last["machine"]["cpus"] >= 1
    assert len(last["learned"]["model"]) == 12
    ranker = last["learned"]["ranker"]
    assert ranker["kind"] == "weights" and set(ranker["sources"]) == set(SOURCES)


def test_customers_of_another_file_complete_their_purchase(files):
    options = ["--transactions", str(files / "early.parquet"), "--test-transactions", str(files / "late.parquet")]
    done = run(files, *options, "--only", "recsys", "--balances", "--read", "3")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["ratios"] == {}
    read = done.stdout.splitlines()
    assert (
        sum(line.startswith("customer ") for line in read) == sum(line.startswith("  bought: ") for line in read) == 3
    )
    like = {
        row["system"]: row["value"] for row in last["rows"] if (row["slice"], row["metric"]) == ("all", "diversity@12")
    }
    assert len(like) == 5 and like["recsys, diversity 0.3, calibration 0"] > like["recsys"]
    assert max(row["users"] for row in last["rows"]) == 100


def test_a_cut_after_everything_is_one_line_of_error(files):
    done = run(files, "--transactions", str(files / "early.parquet"), "--cut", "2021-01-01")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("hm: no event to evaluate with from the cut")


def test_the_ablation_takes_every_part_away_once(files):
    command = [sys.executable, str(SCRIPT.with_name("hm_ablation.py")), "--articles", str(files / "articles.parquet")]
    command += ["--images", str(files / "images.zip"), "--quick", "--json", "--work", str(files / "ablation")]
    command += ["--transactions", str(files / "early.parquet"), str(files / "late.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    named = [row["system"] for row in last["rows"]]
    assert last["benchmark"] == "hm_ablation" and named[0] == "recsys" and len(set(named)) == len(named)
    assert {f"without {source}" for source in SOURCES} < set(named)
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in last["rows"])
    assert last["rows"][0]["value"] > 0


def test_pictures_of_articles_held_back_are_searched_for(files):
    command = [sys.executable, str(SCRIPT.with_name("hm_pictures.py")), "--articles", str(files / "articles.parquet")]
    command += ["--images", str(files / "images.zip"), "--quick", "--json", "--held", "5"]
    command += ["--transactions", str(files / "early.parquet"), str(files / "late.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in last["rows"]}
    assert last["benchmark"] == "hm_pictures" and last["held"] == 5
    assert value["recsys", "pictures held back", "type@10"] == 1  # there are only hats
    assert 0 <= value["recsys", "pictures held back", "colour@10"] <= 1
    assert value["recsys", "knitted hat", "type@10"] == 0  # "Hat/beanie" stands nowhere


def test_vectors_are_judged_by_texts_by_type_and_by_what_is_bought_together(files, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import hm_representation

    given = ["--articles", files / "articles.parquet", "--images", files / "images.zip", "--held", "5"]
    given += ["--transactions", files / "early.parquet", files / "late.parquet", "--quick", "--json"]
    monkeypatch.setattr(sys, "argv", ["hm_representation.py", *map(str, given), "--work", str(files / "together")])
    assert hm_representation.main() == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    value = {(row["system"], row["metric"], row["slice"]): row["value"] for row in last["rows"]}
    assert last["benchmark"] == "hm_representation" and last["held"] == 5 and last["customers"] > 20
    for view in ("text", "image", "text+image", "all"):
        assert value["recsys", "type@10", view] == 1  # there are only hats
    assert 0 <= value["recsys", "i2t_recall@1", "image"] <= 1
    # Customers buy red hats or blue ones, never both.
    for system in ("item-item", "recsys"):
        chance = value["chance", "together_recall@20", "all"]
        assert value[system, "together_recall@20", "all"] > chance * (1.2 if system == "item-item" else 0)
    assert {"without co_purchase", "popular", "tf-idf of all columns", "lsa 256"} <= {system for system, _, _ in value}
    first, second = last["learned"]
    assert "co_purchase" in first["losses"] and "co_purchase" not in second["losses"]


def test_bought_together_is_what_one_customer_bought_within_days(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from hm_representation import DAY, Together, by_cosine

    from recsys.data.interactions import Interactions

    def log(rows):
        user, item, day = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        return Interactions.from_events(user=user, item=item, time=day * DAY, n_users=3, n_items=30)

    bought = log([(0, 1, 0), (0, 2, 5), (0, 3, 20), (0, 1, 21), (1, 4, 0), (2, 2, 3), (2, 5, 3)])
    together = Together(bought, log([(0, 1, 0), (0, 3, 0)]), days=7, most=10, seed=0)
    held = sorted(zip(together.anchor.tolist(), [one.tolist() for one in together.partners], strict=True))
    assert held == [(1, [2, 3]), (2, [1]), (2, [5]), (3, [1]), (5, [2])] and together.customers == 2
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    lists = by_cosine(vectors)(together.anchor)
    recall = [np.isin(one, row).mean() for one, row in zip(together.partners, lists, strict=True)]
    found = together.judged(by_cosine(vectors))
    first = [np.mean(np.array(recall)[together.owner == customer]) for customer in (0, 1)]
    np.testing.assert_allclose(found["together_recall@20", "all"], first)
    cold = [np.array(recall)[(together.owner == customer) & together.cold].mean() for customer in (0, 1)]
    np.testing.assert_allclose(found["together_recall@20", "never bought"], cold)
    assert all(row.tolist().count(one) == 0 for one, row in zip(together.anchor.tolist(), lists, strict=True))
