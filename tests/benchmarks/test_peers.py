from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.data.interactions import Interactions

HERE = Path(__file__).parents[2]
BENCHMARKS = HERE / "benchmarks"
USERS, ITEMS = 40, 25
FAKE = """
import json, sys
import numpy as np
from pathlib import Path
script, folder, *options = sys.argv[1:]
assert script.endswith("peers.py"), script
folder = Path(folder)
train = dict(np.load(folder / "train.npz"))
if "--rounds" in options:
    print("a word of greeting")
    while True:
        print(json.dumps({"seconds": 10.0}), flush=True)
        if sys.stdin.readline().strip() != "round":
            sys.exit()
test = dict(np.load(folder / "test.npz"))
assert set(train) == {"user", "item", "n_users", "n_items"}
histories, k = test["histories"], int(test["k"])
assert len(test["users"]) == len(histories) and bool(test["exclude_seen"]) is True
lists = np.full((len(histories), k), -1)
lists[:, 0] = (histories[:, -1] + 1) % int(train["n_items"])  # the next on the ring
np.savez(folder / "implicit-als.npz", lists=lists)
failed = {"rectools-sasrec": "ImportError: No module named 'rectools'"}
found = {"implicit-als": {"fit_s": 1.0, "recommend_s": 0.5}}
facts = {"versions": {"implicit": "9"}, "systems": found, "failed": failed}
(folder / "facts.json").write_text(json.dumps(facts))
print("noise")
"""


def interpreter(folder: Path, text: str) -> Path:
    """An executable that takes a script and options as python does, and does as `text` says."""
    path = folder / "python-of-others"
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def file(tmp_path):
    """Users who walk along a ring of products."""
    g = np.random.default_rng(0)
    lines = [f"u{user} {' '.join(map(str, (g.integers(ITEMS) + np.arange(6)) % ITEMS))}" for user in range(USERS)]
    path = tmp_path / "ring.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(script, *options):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, options), "--quick", "--json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)


def answer(done):
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    return last, {(row["system"], row["metric"]): row for row in last["rows"]}


def test_lists_of_others_are_judged_beside_ours(file, tmp_path):
    done = run("sequential.py", file, "--peers", interpreter(tmp_path, FAKE))
    last, rows = answer(done)
    assert 0 < rows["implicit ALS", "hr@10"]["value"] <= 1
    assert rows["implicit ALS", "ndcg@10"]["value"] == rows["implicit ALS", "hr@10"]["value"], "first or not at all"
    assert "ndcg@10 recsys / implicit ALS" in last["ratios"]
    assert last["peers"]["versions"] == {"implicit": "9"}
    assert ("RecTools SASRec", "hr@10") not in rows
    said = [line for line in done.stderr.splitlines() if "left out" in line]
    assert len(said) == 1 and said[0].endswith("RecTools SASRec left out: ImportError: No module named 'rectools'")


def test_with_only_ours_no_other_is_asked(file, tmp_path):
    last, rows = answer(run("sequential.py", file, "--peers", tmp_path / "nothing", "--only", "recsys"))
    assert {system for system, _ in rows} == {"recsys"} and last["peers"] == {}


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peer_lists

    return peer_lists


def log() -> Interactions:
    return Interactions.from_events(
        user=np.array([0, 0, 1, 1, 2]),
        item=np.array([0, 1, 1, 2, 1]),
        time=np.array([10, 20, 10, 20, 30]),
        n_users=4,
        n_items=5,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("import sys; sys.exit('out of memory')", "ended with 1: out of memory"),
        ("", "it said nothing"),
    ],
)
def test_peers_that_fail_are_one_line_and_left_out(peers, tmp_path, text, message):
    python, told = tmp_path / "nothing" if text is None else interpreter(tmp_path, text), []
    train = log()
    asked = {"k": 3, "exclude_seen": True, "folder": tmp_path / "peers", "options": [], "say": told.append}
    assert peers.peer_lists(python, train, train.histories(np.arange(4), 3), **asked) == ({}, {})
    assert len(told) == 1 and "peers left out" in told[0] and message in told[0]


def test_lists_are_given_by_user_and_the_unknown_get_what_is_popular(peers):
    train = log()
    histories = train.histories(np.arange(4), 3)
    lists = np.array([[2, 3], [3, -1], [4, 0], [-1, -1]])
    system = peers.as_system(lists, histories, train, now=40)
    assert system(train.histories(np.array([2, 0]), 3), 1).tolist() == [[4], [2]]
    found = system(histories, 4)
    assert found[:3].tolist() == [[2, 3, -1, -1], [3, -1, -1, -1], [4, 0, -1, -1]]
    assert found[3].tolist() == [1, 0, 2, -1]


def test_training_speed_is_measured_in_turns(file, tmp_path):
    last, rows = answer(run("sequence_speed.py", file, "--peers", interpreter(tmp_path, FAKE)))
    own, other = (rows[name, "sequences_per_s"] for name in ("recsys", "RecTools SASRec"))
    assert other["value"] == pytest.approx(USERS / 10)
    assert 0 < own["low"] <= own["value"] <= own["high"]
    ratio = last["ratios"]["sequences_per_s recsys / RecTools SASRec"]
    assert ratio == pytest.approx(own["value"] / other["value"], rel=1e-2)
    assert last["facts"]["rounds"] == 2 and last["facts"]["flops_per_sequence"] > 0
    assert last["ratios"]["sequences_per_s recsys / limit"] > 0


def test_training_speed_without_the_peer(file, tmp_path):
    broken = interpreter(tmp_path, "import sys; sys.exit('no RecTools')")
    done = run("sequence_speed.py", file, "--peers", broken)
    last, rows = answer(done)
    assert set(rows) == {("recsys", "sequences_per_s")} and set(last["ratios"]) == {"sequences_per_s recsys / limit"}
    assert "RecTools SASRec left out" in done.stderr and "no RecTools" in done.stderr
    assert set(answer(run("sequence_speed.py", file, "--only", "recsys", "--peers", broken))[1]) == set(rows)


def test_the_real_ones(peers, tmp_path):
    python = os.environ.get("PEERS")
    if not python:
        pytest.skip("PEERS names no interpreter that has RecTools and implicit")
    g, told = np.random.default_rng(0), []
    user = np.repeat(np.arange(50), 6)
    item = (np.repeat(g.integers(0, 30, 50), 6) + np.tile(np.arange(6), 50)) % 30
    train = Interactions.from_events(user=user, item=item, time=np.arange(300), n_users=52, n_items=31)
    histories = train.histories(np.arange(40), 8)
    options = ["--epochs", "1", "--factors", "8"]
    for exclude_seen in (True, False):
        asked = {"exclude_seen": exclude_seen, "folder": tmp_path, "options": options, "say": told.append}
        found, facts = peers.peer_lists(Path(python), train, histories, k=5, **asked)
        assert told == [] and set(found) == set(peers.NAMES.values())
        assert {"rectools", "implicit"} <= set(facts["versions"])
        for lists in found.values():
            assert lists.shape == (40, 5) and lists.max() < 30
            assert all(len(set(row)) == len(row) for row in (own[own >= 0].tolist() for own in lists))
            had = [np.isin(row, own).any() for row, own in zip(lists, histories.items, strict=True)]
            assert not exclude_seen or not any(had)
    strangers = Interactions.from_events(user=user + 1, item=item, time=np.arange(300), n_users=52, n_items=31)
    some = strangers.where(strangers.user == 1).histories(np.array([1, 0]), 8)
    others = strangers.where(strangers.user > 1)
    asked = {"exclude_seen": True, "folder": tmp_path, "options": options, "say": told.append}
    found, _ = peers.peer_lists(Path(python), others, some, k=5, **asked)
    assert set(found) == set(peers.NAMES.values()) - {"implicit BPR"}
    assert "BPR" in told[0] and all((lists[0] >= 0).any() and (lists[1] < 0).all() for lists in found.values())
