"""The benchmark of filling gaps, in its small version: one line of JSON, our row beside the plain ones."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A shop of 120 articles in H&M's tables: the name tells the type, the text the colour, nothing the department."""
    folder, g = tmp_path_factory.mktemp("hm"), np.random.default_rng(0)
    ids = [f"0{row:09d}" for row in range(120)]
    kind, colour = [["Hat", "Belt", "Bra"][row % 3] for row in range(120)], ["Red", "Blue"]
    pl.DataFrame(
        {
            "article_id": ids,
            "prod_name": [f"{one} model{row // 6}" for row, one in enumerate(kind)],
            "detail_desc": [f"made in {colour[row % 2]}" for row in range(120)],
            "product_type_name": kind,
            "product_code": [f"{row // 6:07d}" for row in range(120)],
            "colour_group_name": [colour[row % 2] for row in range(120)],
            "perceived_colour_value_name": [colour[row % 2] for row in range(120)],
            "department_name": [f"d{int(g.integers(4))}" for _ in range(120)],
        }
    ).write_parquet(folder / "articles.parquet")
    rows = [(date(2020, 9, 1) + timedelta(days=at % 20), f"c{at % 30:03d}", ids[at % 120]) for at in range(360)]
    pl.DataFrame(rows, schema=["t_dat", "customer_id", "article_id"], orient="row").write_parquet(
        folder / "log.parquet"
    )
    return folder


def run(files, *options):
    command = [sys.executable, str(HERE / "benchmarks" / "complete.py"), "--quick", "--json", *options]
    command += ["--articles", str(files / "articles.parquet"), "--transactions", str(files / "log.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_hidden_values_are_guessed_beside_the_plain_ways(files):
    last = run(files)
    value = {(row["system"], row["slice"], row["metric"]): row for row in last["rows"]}
    assert last["benchmark"] == "complete" and last["quick"] is True and last["related"] is False
    assert {system for system, *_ in value} == {"recsys", "majority", "tf-idf"}
    assert value["recsys", "type", "accuracy"]["value"] > 0.9 > value["majority", "type", "accuracy"]["value"]
    assert value["recsys", "department", "accuracy"]["value"] < 0.6  # it was drawn at random
    told = value["recsys", "department", "accuracy told"]["value"]
    assert abs(told - value["recsys", "department", "accuracy"]["value"]) < 0.25
    own = value["recsys", "colour", "accuracy"]
    assert 0 <= own["low"] <= own["value"] <= own["high"] <= 1
    assert last["ratios"]["type accuracy recsys / majority"] > 1
    hidden = last["learned"]["colour"]
    assert hidden["known"] + hidden["hidden"] == 120 and 20 < hidden["hidden"] < 55


def test_ours_alone(files):
    last = run(files, "--only", "recsys", "--related")
    assert {row["system"] for row in last["rows"]} == {"recsys"} and last["ratios"] == {}
    assert last["related"] is True
