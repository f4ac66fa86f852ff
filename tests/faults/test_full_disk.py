"""A disk that is full: what was there stays and can be read, the command ends with 75, and goes on when there is room.

In: a file system of 12 MB where this process may mount one; elsewhere fail-points in its place, and the table says so.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.db.engine import connect
from tests.faults.invariants import LISTS, check, no_drafts
from tests.faults.scenarios import SCENARIOS, told
from tests.faults.stub import exit_code
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

SIZE = 12_000_000
POINTS = {
    "inputs": ("night", 45_000, "store.inputs.commit.before"),
    "lists": ("night", 200_000, "store.shard.commit.before"),
    "pointer": ("rollback", 0, "store.rollback.commit.before"),
    "vectors": ("vectors", 4096, "disk.fsync.before"),
    "model": ("model", 30_000, "disk.fsync.before"),
    "checkpoint": ("snapshot", 0, "disk.fsync.before"),
    "pictures": ("pictures", 0, "disk.fsync.before"),
}
"""Where the disk is full: what is being written, the bytes that are left for it, the fail-point in its place."""
TIMES_LARGE = 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A folder with a small file system of its own; None where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(disk: Path, left: int) -> None:
    held = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"x" * max(0, held.f_bavail * held.f_frsize - left))


@pytest.mark.parametrize("point", POINTS)
def test_a_full_disk(point: str, disk: Path | None, tmp_path: Path, faults_large: bool, tally: Tally) -> None:
    name, left, failpoint = POINTS[point]
    scenario, dice = SCENARIOS[name], random.Random(point)
    for number in range(TIMES_LARGE if faults_large else 1):
        with tally("disk full" if disk else "disk full (by fail-points: nothing can be mounted here)", what=point):
            folder = (disk or tmp_path) / f"shop{number}"
            folder.mkdir()
            place = f"sqlite:///{folder}/shop.db" if scenario.store else str(folder)
            for version in scenario.before:
                (SCENARIOS["night"].act if scenario.store else scenario.act)(place, version)
            old, new = told(scenario.before[-1]), told(scenario.new)
            reader = connect(place).connect() if scenario.store else None
            before = reader.exec_driver_sql(LISTS).all() if reader else None
            if reader:
                reader.rollback()
            if disk:
                _fill(disk, dice.randint(0, left) // 4096 * 4096 if number else left)
            code = exit_code(
                lambda place=place: scenario.act(place, scenario.new), armed="" if disk else f"{failpoint}=enospc"
            )
            assert code == 75
            assert scenario.read(place) == old
            if reader:
                assert reader.exec_driver_sql(LISTS).all() == before, "I9"
                reader.close()
                reader.engine.dispose()
            if disk:
                (disk / "ballast").unlink()
            if scenario.store:
                check(place)
            scenario.act(place, scenario.new)
            assert scenario.read(place) == new
            if scenario.store:
                check(place, settled=True)
            else:
                no_drafts([folder])
            shutil.rmtree(folder)


def test_a_disk_too_full_for_a_new_reader_says_so(disk: Path | None) -> None:
    """SQLite needs 32 kB beside the database for the first of its readers: there is nothing to read without them."""
    if disk is None:
        pytest.skip("no file system can be mounted here")
    url = f"sqlite:///{disk}/shop.db"
    SCENARIOS["night"].act(url, "a")
    _fill(disk, 0)
    assert exit_code(lambda: SCENARIOS["night"].read(url), armed="") == 75
    (disk / "ballast").unlink()
    assert SCENARIOS["night"].read(url) == "a"
