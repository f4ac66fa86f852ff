from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.errors import UsageError
from tests.benchmarks.scripts import run_script

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "benchmarks" / "sequential.py"
USERS, ITEMS = 60, 30


@pytest.fixture(scope="module")
def sequences():
    """Users who walk along a ring of products, mostly to the next one: item texts, in order."""
    g, out = np.random.default_rng(0), {}
    for user in range(USERS):
        steps = g.choice([1, 1, 1, 2], size=int(g.integers(4, 9)))
        out[f"u{user}"] = [f"i{item}" for item in ((g.integers(ITEMS) + np.cumsum(steps)) % ITEMS).tolist()]
    out["short"] = ["i1", "i2"]  # learned from, in no case
    return out


def run(file, *options):
    return run_script("sequential.py", str(file), "--quick", "--json", *map(str, options))


def answer(done):
    """The line of JSON, and its rows by system and metric."""
    assert done.returncode == 0, done.stderr

    def refused(constant):
        raise AssertionError(f"{constant} is no JSON")

    last = json.loads(done.stdout.splitlines()[-1], parse_constant=refused)
    return last, {(row["system"], row["metric"]): row for row in last["rows"]}


def test_lines_of_sequences_end_with_one_line_of_json(sequences, tmp_path):
    lines, file = [" ".join([user, *own]) for user, own in sequences.items()], tmp_path / "ring.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    attributes, items = tmp_path / "attributes.json", tmp_path / "items.parquet"
    attributes.write_text(json.dumps({f"i{row}": [row % 3, 7] for row in range(20)}), encoding="utf-8")
    pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(25)],  # of some nothing is known
            "text_keywords": [f"thing {row // 5}" for row in range(25)],
            "attribute_names": [["soft", None, "red"]] * 25,
        }
    ).write_parquet(items)
    done = run(file, "--attributes", attributes, "--items", items)
    last, rows = answer(done)
    assert f"{USERS + 1} users, {ITEMS} products, {USERS} cases" in done.stderr
    assert last["benchmark"] == "sequential" and last["file"] == "ring.txt"
    assert last["quick"] is True and last["seeds"] == 1
    systems = {system for system, _ in rows}
    assert {"popular", "item-item", "ease", "transitions", "plain blend", "recsys"} <= systems
    assert {"source transitions", "source ease", "source cluster"} <= systems
    assert {"sequence, ids alone", "sequence, content alone"} <= systems
    assert not systems & {"source repurchase", "source fresh"}, "nothing is bought again here"
    assert {metric for _, metric in rows} == {"ndcg@10", "hr@10"}
    for row in last["rows"]:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1 and row["slice"] == "all"
    for system in systems:
        assert rows[system, "ndcg@10"]["value"] <= rows[system, "hr@10"]["value"]
    # The ring is what a directed step knows best, and what popularity does not know.
    assert rows["transitions", "ndcg@10"]["value"] > rows["popular", "ndcg@10"]["value"]
    own = rows["recsys", "ndcg@10"]["value"]
    assert last["ratios"] == {
        f"ndcg@10 recsys / {system}": pytest.approx(own / rows[system, "ndcg@10"]["value"], abs=1e-4)
        for system in systems - {"recsys"}
        if rows[system, "ndcg@10"]["value"]
    }
    (learned,) = last["learned"]
    assert len(learned["model"]) == 12 and learned["ranker"]["kind"] == "weights" and learned["seconds"] >= 0
    assert last["machine"]["cpus"] >= 1 and last["machine"]["peak_mb"] > 0


def test_lines_of_user_and_item_may_be_packed_and_seeds_repeated(sequences, tmp_path):
    file = tmp_path / "ring.txt.gz"
    with gzip.open(file, "wt", encoding="utf-8") as packed:
        # In order of time, so the users' lines are mixed.
        packed.writelines(f"{user} {own[at]}\n" for at in range(9) for user, own in sequences.items() if at < len(own))
    done = run(file, "--only", "recsys", "--seeds", "2")
    last, rows = answer(done)
    assert f"{USERS + 1} users, {ITEMS} products, {USERS} cases" in done.stderr
    assert set(rows) == {("recsys", "ndcg@10"), ("recsys", "hr@10")}
    assert last["ratios"] == {} and last["seeds"] == len(last["learned"]) == 2
    assert rows["recsys", "hr@10"]["value"] > 10 / ITEMS, "better than any ten products"
    assert rows["recsys", "hr@10"]["low"] <= rows["recsys", "hr@10"]["value"] <= rows["recsys", "hr@10"]["high"]


def test_both_ways_of_writing_a_file_say_the_same(sequences, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from sequential_data import START, read

    one, two = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("".join(f"{' '.join([user, *own])}\n" for user, own in sequences.items()), encoding="utf-8")
    two.write_text("".join(f"{user} {i}\n" for user, own in sequences.items() for i in own), encoding="utf-8")
    logs = [read(path, attributes=None, items=None) for path in (one, two)]
    for name in ("user", "item", "time"):
        np.testing.assert_array_equal(*(getattr(log.train, name) for log in logs))
    log = logs[0]
    assert log.users.texts == tuple(sequences) and log.users.texts == logs[1].users.texts
    assert [log.catalogue.ids.ids(found)[0] for found in log.test.targets] == [
        own[-1] for user, own in sequences.items() if user != "short"
    ]
    for row, own in enumerate(sequences[user] for user in sequences if user != "short"):
        known = log.test.histories.items[row]
        assert log.catalogue.ids.ids(known[known >= 0]) == own[:-1]
    assert log.train.time.min() == START and log.test.now > log.train.time.max()
    few = read(one, attributes=None, items=None, most_users=5)
    assert few.train.n_users == 5 and len(few.catalogue) == len(log.catalogue)


def test_a_blank_line_is_nobody(sequences, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from sequential_data import read

    file = tmp_path / "ring.txt"
    file.write_text("\n".join(f"{' '.join([user, *own])}\n" for user, own in sequences.items()), encoding="utf-8")
    assert read(file, attributes=None, items=None).users.texts == tuple(sequences)


@pytest.mark.parametrize(("text", "message"), [(None, "no such file"), ("", "nobody"), ("a 1 2 3\nb 2 3\n", "nobody")])
def test_a_file_without_a_case_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from sequential_data import read

    file = tmp_path / "ring.txt"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read(file, attributes=None, items=None)


def test_what_cannot_be_read_is_one_line_of_error(tmp_path):
    done = run(tmp_path / "nothing.txt")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [f"sequential: {tmp_path / 'nothing.txt'}: no such file"]


def test_lines_of_the_real_file(shared_data, tmp_path):
    file = shared_data / "amazon-sequential" / "Beauty.txt"
    if not file.is_file():
        pytest.skip(f"no real data: {file} is missing")
    part = tmp_path / file.name  # all products make the closed-form sources slow and prove nothing more
    part.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:300]), encoding="utf-8")
    last, rows = answer(run(part, "--only", "recsys"))
    assert set(rows) == {("recsys", "ndcg@10"), ("recsys", "hr@10")} and last["file"] == "Beauty.txt"
    assert 0 < rows["recsys", "ndcg@10"]["value"] < 0.2
