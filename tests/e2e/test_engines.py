"""The same run wherever it is made: in this process, in several, by Ray, in parts; killed workers change nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.config import read
from recsys.errors import LeaseHeldError
from recsys.pipeline import recommend as lists
from recsys.pipeline.project import Project
from recsys.store import run_ledger, tables
from recsys.store import run_parts as parts
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.e2e.projects import Run, rows

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
RUNS = "SELECT COUNT(*) FROM runs WHERE kind = 'recommend'"
KILLER = """
import os, signal, sys
from pathlib import Path
from recsys.pipeline.recommend_task import RecommendTask
from recsys.store.run_writer import RunWriter
plain = RunWriter.write_shard
def write(self, shard_id, frame, **more):
    mark = Path(sys.argv[-1]) / f"killed{{shard_id}}"
    if shard_id in {shards} and os.getpid() != driver and not mark.exists():
        mark.touch()
        {when}
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, shard_id, frame, **more)
driver = int(os.environ.setdefault("DRIVER", str(os.getpid())))
RunWriter.write_shard = write
if __name__ == "__main__":
    from recsys.cli.app import main
    sys.exit(main(sys.argv[1:-1]))
"""


@pytest.fixture(scope="module")
def five(trained: Path, tmp_path_factory: pytest.TempPathFactory, recsys: Run) -> Path:
    """A project whose published lists, five long, were made in one process."""
    project = Path(shutil.copytree(trained, tmp_path_factory.mktemp("five") / "project"))
    assert recsys("recommend", "-k", "5", "-C", project, "-q").code == 0
    return project


def program(text: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = folder / "program.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(path), *map(str, arguments), str(folder)], capture_output=True, text=True, timeout=500,
        check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
def test_processes_make_the_same_rows_and_a_killed_worker_changes_nothing(
    copied: Path, five: Path, tmp_path: Path, when: str, faults_large: bool
) -> None:
    if when == "after" and not faults_large:
        pytest.skip("make faults kills a worker after its shard is written, too")
    workers = 2 if faults_large else 1  # each worker takes seconds to start
    killer = KILLER.format(shards="(1,)", when="pass" if when == "before" else "plain(self, shard_id, frame, **more)")
    command = ("recommend", "-k", "5", "--engine", "processes", "--workers", workers, "-C", copied, "--json")
    done = program(killer, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed1").exists() and "ended by signal 9" in done.stderr
    assert rows(copied) == rows(five)
    drops = "SELECT json_extract(metrics, '$.drops') FROM runs WHERE kind = 'recommend' ORDER BY run_id DESC LIMIT 1"
    ((made,),), ((expected,),) = rows(copied, drops), rows(five, drops)
    assert '"lists":41' in expected and {"lists", "pairs_struck"} <= json.loads(made).keys()
    assert json.loads(made) == json.loads(expected)
    ledger = """SELECT shard_id, n_users, n_rows, checksum FROM run_shards
      WHERE run_id = (SELECT MAX(run_id) FROM run_shards) ORDER BY 1"""
    assert rows(copied, ledger) == rows(five, ledger) and len(rows(five, ledger)) == 5


@pytest.mark.timeout(600)
def test_a_stopped_run_of_processes_goes_on_with_another_engine(
    copied: Path, five: Path, recsys: Run, tmp_path: Path, faults_large: bool
) -> None:
    if not faults_large:
        pytest.skip("make faults stops a run of processes; tests/execution stops processes without a run")
    stopper = """
import os, signal, sys
from recsys.pipeline.recommend_stats import RunStats
plain = RunStats.add
def add(self, one):
    plain(self, one)
    if self.shards == 2:
        os.kill(os.getpid(), signal.SIGTERM)
RunStats.add = add
if __name__ == "__main__":
    from recsys.cli.app import main
    sys.exit(main(sys.argv[1:-1]))
"""
    before = rows(copied)
    done = program(stopper, tmp_path, "recommend", "-k", "5", "--engine", "processes", "--workers", "2", "-C", copied)
    assert done.returncode == 143, done.stderr
    assert rows(copied) == before
    outcome = recsys("recommend", "-k", "5", "-C", copied, "--json")
    assert outcome.code == 0 and outcome.document["counts"]["shards_resumed"] >= 2
    assert rows(copied) == rows(five)


def part(recsys: Run, project: Path, index: int, of: int, *more: str):
    return recsys("recommend", "-k", "5", "--shard-index", index, "--num-shards", of, "-C", project, "--json", *more)


def test_parts_make_one_run_and_the_last_of_them_publishes_it_once(copied: Path, five: Path, recsys: Run) -> None:
    before, ((count,),) = rows(copied), rows(copied, RUNS)
    first = part(recsys, copied, 2, 3)
    assert first.code == 0 and rows(copied) == before
    said = recsys("recommend", "-k", "5", "--shard-index", "0", "--num-shards", "3", "-C", copied)
    assert "2 shards of other parts are missing" in said.err
    assert part(recsys, copied, 0, 3).document["status"] == "nothing_new"  # a part that is started again
    last = part(recsys, copied, 1, 3)
    assert rows(copied) == rows(five)
    assert last.document["run_id"] == first.document["run_id"]
    for index in range(3):  # and again when all is over
        again = part(recsys, copied, index, 3)
        assert (again.code, again.document["status"], again.document["run_id"]) == (
            0,
            "nothing_new",
            last.document["run_id"],
        )
    assert rows(copied, RUNS) == [(count + 1,)]
    ((generation,),) = rows(copied, "SELECT generation FROM publications WHERE placement = 'default'")
    assert generation == 2
    shown = recsys("runs", "show", "-C", copied, "--json").document
    assert shown["counts"]["users"] == 40
    tables = {name: {row[first]: row for row in held} for name, first, held in (
        ("lists", "what", shown["tables"]["lists"]), ("parts", "part", shown["tables"]["parts"]),
        ("stages", "stage", shown["tables"]["stages"]), ("drops", "rule", shown["tables"]["drops"]),
    )}  # fmt: skip
    assert [tables["parts"][str(at)]["shards"] for at in range(3)] == [2, 2, 1]
    assert sum(row["users"] for row in tables["parts"].values()) == 40
    assert tables["lists"]["users_per_second"]["value"] > 0 and tables["lists"]["worker_peak_mb"]["value"] > 10
    assert tables["stages"]["recommend"]["peak_mb"] > 10 and {"available_only", "seen", "all"} <= tables["drops"].keys()


@pytest.mark.timeout(600)
def test_parts_at_the_same_time_on_a_fresh_store(copied: Path, five: Path) -> None:
    """Two processes that know nothing of each other make one run, and one of them publishes it."""
    start = [sys.executable, "-m", "recsys", "recommend", "-k", "5", "--num-shards", "2", "-q", "-C", str(copied)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    crew = [
        subprocess.Popen([*start, "--shard-index", str(index)], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    for one in crew:
        _, said = one.communicate(timeout=500)
        assert one.returncode == 0, said
    assert rows(copied) == rows(five)
    assert rows(copied, "SELECT generation FROM publications WHERE placement = 'default'") == [(2,)]
    assert rows(copied, "SELECT COUNT(*) FROM runs WHERE state = 'building'") == [(0,)]


def test_an_unfinished_run_of_other_data_is_given_up_once_nobody_writes_it(copied: Path, recsys: Run) -> None:
    assert part(recsys, copied, 0, 2).code == 0
    ((old,),) = rows(copied, "SELECT run_id FROM runs WHERE state = 'building'")
    outcome = recsys("recommend", "-k", "4", "--shard-index", "0", "--num-shards", "1", "-C", copied, "--json")
    assert outcome.code == 0, outcome.err
    assert rows(copied, f"SELECT state FROM runs WHERE run_id = '{old}'") == [("failed",)]
    assert {rank for (_, _, rank, *_) in rows(copied)} == {1, 2, 3, 4}


def test_a_published_run_that_was_rolled_back_is_made_again(copied: Path, recsys: Run) -> None:
    assert part(recsys, copied, 0, 1).code == 0
    assert recsys("rollback", "--yes", "-C", copied).code == 0
    assert part(recsys, copied, 0, 1).document["status"] == "done"


def test_a_guard_that_refuses_is_told_by_the_last_part_and_by_whoever_comes_again(copied: Path, recsys: Run) -> None:
    with (copied / "recsys.toml").open("a") as file:
        file.write("[publish]\nmin_overlap = 1.0\n")
    with (copied / "recsys.toml").open("a") as file:
        file.write("[rules]\nexclude = ['" + rows(copied)[0][3] + "']\n")
    before = rows(copied)
    for _ in range(2):
        refused = recsys("recommend", "--shard-index", "0", "--num-shards", "1", "-C", copied)
        assert refused.code == 4 and "min_overlap" in refused.err
        assert rows(copied) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard-index", "0"], "go together"),
        (["--num-shards", "2"], "go together"),
        (["--shard-index", "2", "--num-shards", "2"], "numbered from 0"),
        (["--engine", "local", "--workers", "2"], "one worker"),
    ],
)
def test_options_that_do_not_fit(copied: Path, recsys: Run, options: list[str], words: str) -> None:
    outcome = recsys("recommend", "-k", "5", *options, "-C", copied)
    assert outcome.code == 2 and words in outcome.err


def test_parts_need_vectors_that_are_up_to_date(copied: Path, recsys: Run) -> None:
    shutil.rmtree(copied / "artifacts/embeddings")
    outcome = part(recsys, copied, 0, 2)
    assert outcome.code == 1 and "recsys embed" in outcome.err


# --- the lease of parts ---------------------------------------------------------------------------------------------

ONE, OTHER = (RunManifest("m", data, "c", {"k": 5}) for data in ("today", "tomorrow"))


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def empty(database_url: str) -> str:
    with Store.open(database_url) as store:
        store.init()
    return database_url


def test_parts_share_and_a_stranger_is_refused(empty: str, held: ExitStack) -> None:
    first, second = (held.enter_context(Store.open(empty, lease=False, shared=True)) for _ in range(2))
    one = parts.join_run(first, "recommend", ONE, placement="default", n_parts=2)
    two = parts.join_run(second, "recommend", ONE, placement="default", n_parts=2)
    assert (one.state, one.run.run_id, one.run.writer) == (two.state, two.run.run_id, two.run.writer)
    with pytest.raises(LeaseHeldError):
        Store.open(empty)
    with pytest.raises(LeaseHeldError, match="is being written"):
        parts.join_run(second, "recommend", OTHER, placement="default", n_parts=2)
    with pytest.raises(LeaseHeldError, match="one of 2 parts"):
        parts.join_run(second, "recommend", ONE, placement="default", n_parts=3)


HOLDER = """
import sys, time
from recsys.store import run_parts as parts
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
store = Store.open(sys.argv[1], lease=False, shared=True)
parts.join_run(store, "recommend", RunManifest("m", "today", "c", {"k": 5}), placement="default", n_parts=2)
print("held", flush=True)
time.sleep(600)
"""


def test_a_killed_part_blocks_nobody_and_its_run_is_given_up(empty: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, empty], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeldError):
        Store.open(empty)
    child.kill()
    child.communicate()
    with taken(empty) as store:  # a server notices a moment later
        joined = parts.join_run(store, "recommend", OTHER, placement="default", n_parts=2)
        assert sorted(store.runs()["state"]) == ["building", "failed"] and joined.state == "building"
    Store.open(empty).close()


def taken(url: str) -> Store:
    for _ in range(20):
        try:
            store = Store.open(url, lease=False, shared=True)
        except LeaseHeldError:
            continue
        with store.reader() as connection:
            if connection.execute(sa.select(tables.runs.c.host)).scalar_one() == "":
                return store
        store.close()
    pytest.fail("the lease of a dead process is still held")


def test_a_part_is_refused_while_a_stranger_is_at_work(empty: str) -> None:
    with Store.open(empty), pytest.raises(LeaseHeldError):
        Store.open(empty, lease=False, shared=True)


def test_a_run_is_finished_by_one_of_its_parts(empty: str, held: ExitStack) -> None:
    from tests.store.samples import lists as rows_of

    stores = [held.enter_context(Store.open(empty, lease=False, shared=True)) for _ in range(2)]
    joined = [parts.join_run(store, "recommend", ONE, placement="default", n_parts=2) for store in stores]
    for at, (store, one) in enumerate(zip(stores, joined, strict=True)):
        assert not parts.finish_if_complete(store, one.run, 2, counts={}, metrics={})
        assert one.run.write_shard(at, rows_of(**{f"u{at}": [("a", 1.0)]}), n_users=1)
        assert set(parts.record_part(store, one.run, at, {"shards": 1})) == {str(place) for place in range(at + 1)}
    finished = [
        parts.finish_if_complete(store, one.run, 2, counts={"users": 2}, metrics={})
        for store, one in zip(stores, joined, strict=True)
    ]
    assert finished == [True, False]
    assert parts.join_run(stores[1], "recommend", ONE, placement="default", n_parts=2).state == "ready"


def test_who_only_helps_takes_no_lease_and_is_stopped_when_the_run_is_taken_over(empty: str) -> None:
    from recsys.errors import RecsysError
    from tests.store.samples import lists as rows_of

    with Store.open(empty) as driver, Store.open(empty, lease=False) as helper:
        run = driver.begin_run("recommend", ONE)
        hand = parts.attach_worker(helper, run.run_id, writer=run.writer)
        assert hand.write_shard(3, rows_of(u=[("a", 1.0)]), n_users=1) and not run.write_shard(
            3, rows_of(u=[("a", 1.0)]), n_users=1
        )
        run_ledger.release_unfinished_runs(driver.engine)
        with pytest.raises(RecsysError, match="takes no rows from this process"):
            hand.write_shard(4, rows_of(v=[("a", 1.0)]), n_users=1)


# --- Ray ------------------------------------------------------------------------------------------------------------


def test_without_ray_the_message_names_the_extra(copied: Path, recsys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = recsys("recommend", "-k", "5", "--engine", "ray", "-C", copied)
    assert outcome.code == 2 and "recsys[ray]" in outcome.err


@pytest.mark.timeout(600)
def test_ray_makes_the_same_rows_and_a_killed_worker_changes_nothing(copied: Path, five: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'recsys[ray]')")
    mark = tmp_path / "killed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        settings = read(copied, flags={"recommend.k": 5, "recommend.engine": "ray", "recommend.workers": 2}).settings
        with Project(settings) as bench:
            task = KilledOnce(lists.RecommendTask, mark)
            patch.setattr(lists, "ListTask", task)
            lists.recommend(bench)
    assert mark.exists() and rows(copied) == rows(five)


class KilledOnce:
    """Makes list tasks whose second shard kills its process the first time."""

    def __init__(self, kind: type, mark: Path) -> None:
        self.kind, self.mark = kind, mark

    def __call__(self, work: object, bench: object = None) -> KilledOnceTask:
        return KilledOnceTask(self.kind(work, bench), self.mark)


class KilledOnceTask:
    def __init__(self, task: lists.ListTask, mark: Path) -> None:
        self.task, self.mark = task, mark

    def setup(self) -> None:
        self.task.setup()

    def run(self, shard: object) -> object:
        if shard.index == 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.task.run(shard)
