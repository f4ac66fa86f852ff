"""SIGKILL at random moments of a night: nothing partial is ever shown, and the next night puts everything right."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from recsys.errors import LeaseHeldError
from recsys.store.runs import Store
from tests.store.samples import SHARDS, invariants, lease_of_a_process, night, night_of_a_process, stock, table

pytestmark = pytest.mark.faults

KILLS = {"sqlite": 5, "postgresql": 3, "mysql+pymysql": 2}
KILLS_LARGE = {"sqlite": 1000, "postgresql": 1000, "mysql+pymysql": 1000}
LINES = SHARDS + 2


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start with everything imported: most of the time of a killed night would be its imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store.samples"])
    return context


def _started(context: ForkServerContext, work: Callable[..., None], *arguments: str) -> tuple[BaseProcess, Connection]:
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(*arguments, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def _taken(url: str) -> Store:
    """Open the store of a killed process; a PostgreSQL server needs a moment to notice that its client is gone."""
    for _ in range(100):
        try:
            return Store.open(url)
        except LeaseHeldError:
            time.sleep(0.05)
    return Store.open(url)


def _killed(child: BaseProcess, pipe: Connection, *, after: int, pause: float) -> None:
    for _ in range(after):
        pipe.recv()  # EOFError: the night ended early
    time.sleep(pause)
    child.kill()
    child.join()
    pipe.close()


def _lists(store: Store) -> list[tuple[object, ...]]:
    return table(store, "recommendations", without=("run_id", "generated_at"))


def test_killed_nights(database_url: str, tmp_path: Path, faults_large: bool, processes: ForkServerContext) -> None:
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
        child, pipe = _started(processes, night_of_a_process, database_url, version)
        _killed(child, pipe, after=dice.randrange(LINES), pause=dice.random() * 0.01)
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


def test_one_writer_at_a_time_and_a_dead_one_blocks_nobody(database_url: str, processes: ForkServerContext) -> None:
    child, pipe = _started(processes, lease_of_a_process, database_url)
    assert pipe.recv() == "held"
    with pytest.raises(LeaseHeldError, match="is working on") as refused:
        Store.open(database_url)
    assert refused.value.exit_code == 75
    Store.open(database_url, lease=False).close()  # reading is always free
    _killed(child, pipe, after=0, pause=0)
    _taken(database_url).close()
    with Store.open(database_url), pytest.raises(LeaseHeldError):
        Store.open(database_url)
    Store.open(database_url).close()  # given back by close
