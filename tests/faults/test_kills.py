"""SIGKILL at random moments: nothing partial is ever read, and the next run puts everything right, row by row."""

from __future__ import annotations

import random
from multiprocessing.context import ForkServerContext

import pytest

from recsys.errors import LeaseHeldError
from recsys.store.runs import Store
from tests.faults.invariants import check
from tests.faults.night import SHARDS, STEPS, everything, night
from tests.faults.stub import Child, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

KILLS = {"sqlite": 30, "postgresql": 15}
KILLS_LARGE = {"sqlite": 1000, "postgresql": 1000}
VERSIONS = ("a", "bb", "ccc")
Everything = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def uncrashed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Everything]:
    """What a night of each version writes when nothing happens to it."""
    held = {}
    for version in VERSIONS:
        with Store.open(f"sqlite:///{tmp_path_factory.mktemp('uncrashed')}/{version}.db") as store:
            night(store, version)
            held[version] = everything(store)
    return held


def test_killed_nights(
    database_url: str,
    faults_large: bool,
    processes: ForkServerContext,
    tally: Tally,
    uncrashed: dict[str, Everything],
) -> None:
    dice = random.Random(7)
    kind = database_url.partition(":")[0]
    with Store.open(database_url) as store:
        store.init()
    lists = {version: held["lists"] for version, held in uncrashed.items()}
    shown: list[tuple[object, ...]] = []
    for number in range((KILLS_LARGE if faults_large else KILLS)[kind]):
        with tally(f"SIGKILL in score + publish, {kind}"):
            version = dice.choice(VERSIONS)
            child = Child(processes, "tests.faults.stub:night", database_url, version)
            child.kill(after=dice.randrange(STEPS + 2), pause=dice.random() * 0.008)
            with taken(database_url):
                pass  # only now the last word of the killed process is spoken
            shown = check(database_url, shown=[shown, lists[version]])
            if number % 2:  # every other one is killed again before it is done
                with taken(database_url) as store:
                    run_id = night(store, version)
                    assert everything(store) == uncrashed[version], "I6"
                    assert store.run(run_id)["shards"] == SHARDS
                shown = check(database_url, shown=[lists[version]], settled=True)


def test_one_writer_at_a_time_and_a_dead_one_blocks_nobody(database_url: str, processes: ForkServerContext) -> None:
    child = Child(processes, "tests.faults.stub:lease", database_url)
    assert child.hear() == "held"
    with pytest.raises(LeaseHeldError, match="is working on") as refused:
        Store.open(database_url)
    assert refused.value.exit_code == 75
    Store.open(database_url, lease=False).close()  # reading is always free
    child.kill(after=0, pause=0)
    with taken(database_url), pytest.raises(LeaseHeldError):
        Store.open(database_url)
    Store.open(database_url).close()  # given back by close
