"""Several processes: every shard once, deaths made good, signals obeyed, each worker its share of the cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys.errors import InterruptedRunError, TemporaryError, UsageError
from recsys.execution import registry as engines
from recsys.execution.processes import ProcessExecutor
from recsys.execution.shards import Shard, plan_shards

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class FileTask:
    """Notes in a folder what it does, because its workers share no memory; told to, it fails or dies."""

    folder: Path
    die: tuple[int, ...] = ()
    trouble: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    wait: float = 0.0
    unready: bool = False

    def note(self, what: object) -> int:
        """Append a line; how often it stands there now."""
        with (self.folder / "log").open("a") as file:
            file.write(f"{what}\n")
        return (self.folder / "log").read_text().split().count(str(what))

    def setup(self) -> None:
        self.note("setup")
        if self.unready:
            raise ValueError("no model")

    def run(self, shard: Shard) -> tuple[int, int, str]:
        count = self.note(shard.index)
        if shard.index in self.die and count == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.index in self.trouble and count < 3:
            raise TemporaryError("database away")
        if shard.index in self.wrong:
            raise ValueError("broken")
        if self.wait:
            import time

            time.sleep(self.wait)
        return 10 * shard.index, os.getpid(), os.environ["OMP_NUM_THREADS"]

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()


def done(task: FileTask, shards: int, *, workers: int = 2, retries: int = 2) -> dict[int, tuple[int, int, str]]:
    found = ProcessExecutor().map(task, plan_shards("r", "s", shards), workers=workers, retries=retries)
    return {shard.index: result for shard, result in found}


def test_every_shard_is_done_once_by_workers_that_are_made_ready_once(tmp_path: Path) -> None:
    task = FileTask(tmp_path, wait=0.05)
    found = done(task, 7)
    assert {index: result[0] for index, result in found.items()} == {index: 10 * index for index in range(7)}
    assert sorted(word for word in task.log() if word != "setup") == sorted(map(str, range(7)))
    pids = {pid for _, pid, _ in found.values()}
    assert os.getpid() not in pids and len(pids) == task.log().count("setup") <= 2
    assert {threads for _, _, threads in found.values()} == {"1"}


def test_without_shards_no_process_is_started(tmp_path: Path) -> None:
    assert done(FileTask(tmp_path), 0) == {} and not (tmp_path / "log").exists()


def test_a_killed_worker_is_replaced_and_its_shard_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = FileTask(tmp_path, die=(1, 3))
    assert sorted(done(task, 5)) == list(range(5))
    assert task.log().count("1") == task.log().count("3") == 2 and task.log().count("0") == 1
    assert "ended by signal 9" in caplog.text


def test_deaths_are_borne_only_so_often(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="ended by signal 9") as caught:
        done(FileTask(tmp_path, die=(0,)), 2, retries=0)
    assert caught.value.exit_code == 75


def test_a_temporary_trouble_is_tried_again_and_another_error_is_not(tmp_path: Path) -> None:
    assert sorted(done(FileTask(tmp_path, trouble=(2,)), 3)) == [0, 1, 2]
    (tmp_path / "log").unlink()
    with pytest.raises(TemporaryError, match="database away"):
        done(FileTask(tmp_path, trouble=(0,)), 2, workers=1, retries=1)
    task = FileTask(tmp_path, wrong=(1,))
    with pytest.raises(RuntimeError, match="ValueError: broken"):
        done(task, 3)
    assert task.log().count("1") == 1
    with pytest.raises(RuntimeError, match="no model"):
        done(FileTask(tmp_path, unready=True), 2)


STOPPED = """
import sys
from pathlib import Path
from recsys.cli.context import CommandContext, run_command
from recsys.execution.processes import ProcessExecutor
from recsys.execution.shards import plan_shards
from tests.execution.test_processes import FileTask
def work():
    for shard, _ in ProcessExecutor().map(FileTask(Path(sys.argv[1]), wait=1.0), plan_shards("r", "s", 40), workers=2):
        print(shard.index, flush=True)
if __name__ == "__main__":
    sys.exit(run_command(CommandContext("test", Path(), None, False, True, 0, False), work))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_ends_all_workers(tmp_path: Path, name: str, code: int) -> None:
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED)
    driver = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert driver.stdout is not None
    assert driver.stdout.readline().strip()
    children = [int(pid) for pid in Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()]
    assert children
    driver.send_signal(signal.Signals[name])
    driver.communicate(timeout=60)
    assert driver.returncode == code
    for child in children:  # a worker whose driver was killed ends after the shard it is at
        _gone(child)


def _gone(pid: int) -> None:
    import time

    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"worker {pid} goes on")


def test_engines_by_name() -> None:
    assert isinstance(engines.get_executor("processes"), ProcessExecutor)
    assert (engines.worker_count("local", 0), engines.worker_count("processes", 3)) == (1, 3)
    assert engines.worker_count("processes", 0) >= 1
    with pytest.raises(UsageError, match="did you mean 'processes'"):
        engines.get_executor("proceses")
    with pytest.raises(UsageError, match="at least one worker"):
        ProcessExecutor().map(FileTask(Path()), [], workers=0)


def test_a_stopped_worker_says_so_to_nobody_else() -> None:
    from recsys.execution.retries import ShardOutcome, run_shard

    class Stopped:
        def setup(self) -> None:
            pass

        def run(self, shard: Shard) -> None:
            raise InterruptedRunError("stopped", signal_number=15)

    with pytest.raises(InterruptedRunError):
        run_shard(Stopped(), Shard("r", "s", 0, 1))
    assert isinstance(
        ShardOutcome(Shard("r", "s", 0, 1), error="x", kind=InterruptedRunError).to_exception(), RuntimeError
    )
