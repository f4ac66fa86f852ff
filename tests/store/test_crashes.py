"""SIGKILL at random moments of a night: nothing partial is ever shown, and the next night puts everything right."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.errors import LeaseHeldError
from recsys.store.runs import Store
from tests.store.samples import SHARDS, invariants, night, stock, table

pytestmark = pytest.mark.faults

KILLS = {"sqlite": 5, "postgresql": 3}
KILLS_LARGE = {"sqlite": 1000, "postgresql": 1000}
NIGHT = "import sys; from tests.store.samples import night; from recsys.store.runs import Store\n"
LINES = SHARDS + 2


def _child(code: str, url: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", NIGHT + code, url]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def _taken(url: str) -> Store:
    """Open the store of a killed process; a PostgreSQL server needs a moment to notice that its client is gone."""
    for _ in range(100):
        try:
            return Store.open(url)
        except LeaseHeldError:
            time.sleep(0.05)
    return Store.open(url)


def _kill_after(child: subprocess.Popen[str], lines: int, pause: float) -> None:
    assert child.stdout is not None
    for _ in range(lines):
        assert child.stdout.readline(), "the night ended early"
    time.sleep(pause)
    child.kill()
    child.wait()
    child.stdout.close()


def _lists(store: Store) -> list[tuple[object, ...]]:
    return table(store, "recommendations", without=("run_id", "generated_at"))


def test_killed_nights(database_url: str, tmp_path: Path, faults_large: bool) -> None:
    dice = random.Random(7)
    kind = database_url.partition(":")[0]
    kills = (KILLS_LARGE if faults_large else KILLS)[kind]

    def clean(version: str) -> list[tuple[object, ...]]:
        with Store.open(f"sqlite:///{tmp_path / f'clean{version}.db'}") as other:
            other.init()
            night(other, version)
            return _lists(other)

    expected = {version: clean(version) for version in ("a", "bb")}
    shown = ""
    with Store.open(database_url) as store:
        store.init()
        stock(store)
    for number in range(kills):
        version = ("a", "bb")[number % 3 == 2]  # the same night twice, then another one: resumed, then given up
        child = _child(f"with Store.open(sys.argv[1]) as store: night(store, {version!r})", database_url)
        _kill_after(child, dice.randrange(LINES), dice.random() * 0.01)
        with _taken(database_url) as store:
            invariants(store)
            now = _lists(store)
            if now == expected[version]:
                shown = version
            assert now == (expected[shown] if shown else []), "the list before the crash is not what consumers read"
    with _taken(database_url) as store:
        for version in ("bb", "a"):
            run_id = night(store, version)
            assert _lists(store) == expected[version]
            assert store.run(run_id)["shards"] == SHARDS
            invariants(store)
        assert "building" not in store.runs()["state"].to_list()


def test_one_writer_at_a_time_and_a_dead_one_blocks_nobody(database_url: str) -> None:
    child = _child("store = Store.open(sys.argv[1]); print('held', flush=True); sys.stdin.read()", database_url)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match="is working on") as refused:
            Store.open(database_url)
        assert refused.value.exit_code == 75
        Store.open(database_url, lease=False).close()  # reading is always free
        child.send_signal(signal.SIGKILL)
        child.wait()
        _taken(database_url).close()
        with Store.open(database_url), pytest.raises(LeaseHeldError):
            Store.open(database_url)
        Store.open(database_url).close()  # given back by close
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
