from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.benchmarks.test_representation import files  # noqa: F401 - a catalogue of 90 products

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "clusters.py"


@pytest.fixture
def run(files, monkeypatch, capsys):  # noqa: F811
    """The benchmark in this process: (exit code, out, err)."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import clusters

    def run(*options):
        given = ["--products", files / "styles.parquet", "--images", files / "images.zip", "--quick", "--json"]
        given += ["--seeds", "1", "--nights", "1", "--labels", "5", "--work", files / "work", *options]
        monkeypatch.setattr(sys, "argv", ["clusters.py", *map(str, given)])
        code = clusters.main()
        return code, *capsys.readouterr()

    return run


def test_groups_beside_plain_ones_and_ids_that_stay(run, files, tmp_path):  # noqa: F811
    code, out, err = run()
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    rows = {(row["system"], row["metric"], row["slice"]): row["value"] for row in last["rows"]}
    assert last["benchmark"] == "clusters" and last["products"] == 75 and last["types"] == 3
    for system in ("recsys", "recsys agglomerative", "recsys, text alone", "tf-idf k-means", "pixel k-means"):
        assert rows[system, "clusters", "as types"] == 3
        for metric in ("nmi_articleType", "purity_articleType", "nmi_subCategory", "purity_subCategory"):
            assert 0 <= rows[system, metric, "as types"] <= 1
    # the colour is what the pixels show, and types are bars of white above it
    assert rows["pixel k-means", "purity_articleType", "chosen"] > 0.5
    assert rows["recsys", "clusters", "chosen"] == rows["pixel k-means", "clusters", "chosen"]
    assert "recsys hdbscan" in {row["system"] for row in last["rows"]} and last["learned"]["model"]
    for how in ("5 % replaced", "5 % altered"):
        for name in ("recsys", "recsys agglomerative", "recsys hdbscan"):
            assert 0.5 < rows[name, "ids_kept", how] <= 1
    assert "article types in them:" in out and last["ratios"]

    vectors = np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32)
    names = [f"{number:05d}" for number in range(90)]
    pl.DataFrame({"product_id": names, "vector": vectors}).write_parquet(tmp_path / "given.parquet")
    code, out, err = run("--vectors", tmp_path / "given.parquet", "--only", "recsys")
    assert code == 0, err
    other = json.loads(out.splitlines()[-1])
    assert other["ratios"] == {} and "given" in other["learned"]
    assert {row["system"].split(",")[0].split()[0] for row in other["rows"]} == {"recsys"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vectors", "nothing.parquet"], "no such file"),
        (["--vectors", "a", "--embeddings", "b"], "not both"),
        (["--embeddings", "nowhere"], "no embeddings in nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line_of_error(run, options, message):
    code, out, err = run(*options)
    assert code != 0 and out == "" and message in err.splitlines()[-1]


def test_nmi_and_purity_against_plain_answers(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from clusters_measures import worth

    labels = {"kind": np.array(list("aaabbc"), object)}
    assert worth(np.array([4, 4, 4, 7, 7, 9]), labels) == {"nmi_kind": pytest.approx(1), "purity_kind": 1}
    found = worth(np.array([0, 0, 0, 0, 1, -1]), labels)
    assert found["purity_kind"] == pytest.approx(5 / 6) and 0 < found["nmi_kind"] < 1
    assert worth(np.zeros(6, np.int64), labels) == {"nmi_kind": pytest.approx(0), "purity_kind": 0.5}
