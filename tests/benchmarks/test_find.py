from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.test_hm import files  # noqa: F401 - a fixture

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "benchmarks" / "find.py"


def run(folder, *options):
    command = [sys.executable, str(SCRIPT), "--articles", str(folder / "articles.parquet"), "--images"]
    command += [str(folder / "images.zip"), "--transactions", str(folder / "early.parquet"), "--quick", "--json"]
    return subprocess.run([*command, *map(str, options)], capture_output=True, text=True, cwd=HERE, check=False)


def test_it_ends_with_one_line_of_json(files, tmp_path):  # noqa: F811
    done = run(files, "--queries", "6", "--held", "8", "--work", tmp_path)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["benchmark"], last["articles"], last["held"], last["quick"]) == ("find", 40, 8, True)
    value = {(row["system"], row["slice"], row["metric"]): row["value"] for row in last["rows"]}
    slack = 1e-9  # means of the same numbers, summed in another order
    assert all(0 <= row["low"] <= row["value"] + slack and row["value"] <= row["high"] + slack for row in last["rows"])
    assert all(row["high"] <= 1 + slack for row in last["rows"])
    for meaning in ("itself", "same name", "same type"):
        for mode in ("vector", "lexical", "hybrid"):
            assert ("recsys", f"title: {meaning}", f"mrr {mode}") in value
        assert ("recsys", f"picture: {meaning}", "recall@10 vector") in value
        assert ("recsys", f"picture: {meaning}", "recall@10 lexical") not in value
        assert ("recsys", f"picture and title: {meaning}", "recall@10 hybrid") in value
    # Two articles share each name, word by word, and all forty are hats.
    assert value["recsys", "title: same name", "mrr lexical"] == value["tf-idf", "title: same name", "mrr"] == 1
    assert value["recsys", "title: same name", "recall@10 lexical"] == 1
    assert value["recsys", "title: same type", "mrr vector"] == 1
    assert any(name.startswith("mrr hybrid / vector, title") for name in last["ratios"])


def test_a_model_that_is_given_needs_what_it_has_not_seen(files, tmp_path):  # noqa: F811
    done = run(files, "--model", tmp_path, "--work", tmp_path)
    assert done.returncode == 2 and "--unseen" in done.stderr.splitlines()[-1]
