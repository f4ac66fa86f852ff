"""SIGKILL at random moments: nothing partial is ever read, and the next run puts everything right, row by row."""

from __future__ import annotations

import random
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from recsys.errors import LeaseHeldError
from recsys.store.store import Store
from tests.faults.invariants import check, no_drafts
from tests.faults.night import SHARDS, STEPS, everything, night
from tests.faults.stub import RECORD, Child, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

KILLS = {"sqlite": 30, "postgresql": 15, "mysql+pymysql": 5}
KILLS_LARGE = {"sqlite": 1000, "postgresql": 1000, "mysql+pymysql": 1000}
CHAIN = ("disk.fsync.after=kill@4", "trained.rename.before=kill", "store.shard.commit.after=kill")
"""In the middle of the night: while the model is saved, when it is, and when a shard of lists is written."""
CHAINS_LARGE, CHAINS_COMPLETED = 50, 5
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


@pytest.mark.timeout(7200)
def test_killed_chain(
    demo_shop: Path,
    small_model: dict[str, str],
    tmp_path: Path,
    faults_large: bool,
    processes: ForkServerContext,
    tally: Tally,
) -> None:
    """The whole night with the real model: trained anew from the same data, it ends with the same lists."""
    shop = Path(shutil.copytree(demo_shop, tmp_path / "shop"))
    url = f"sqlite:///{shop}/recsys.db"
    before = check(url)
    assert before

    def night(armed: str = "") -> Child:
        child = Child(processes, "tests.faults.stub:command", ["run", "-C", str(shop), "-q"], small_model, armed=armed)
        child.ended(timeout=600)
        return child

    def untrained() -> None:
        for folder in ("models", "embeddings"):
            shutil.rmtree(shop / "artifacts" / folder)

    untrained()
    plans, dice = list(CHAIN), random.Random(13)
    if faults_large:
        recorded = night(armed=RECORD)
        points = [name for name, count in sorted(recorded.said[-1].items()) for _ in range(count)]
        chosen = [dice.randrange(len(points)) for _ in range(CHAINS_LARGE)]
        plans = [f"{points[at]}=kill@{at - points.index(points[at]) + 1}" for at in chosen]
    for number, plan in enumerate(plans, 1):
        with tally("SIGKILL in the whole chain, real model", what=plan):
            code = night(armed=plan).code
            assert code == -9 or (faults_large and code == 0)  # a resumed night passes fewer points than a whole one
            with taken(url):
                pass
            check(url, shown=[before])
            if number == len(plans) or number % CHAINS_COMPLETED == 0:
                assert night().code == 0
                check(url, shown=[before], settled=True)
                no_drafts([shop / "artifacts"])
                untrained()
