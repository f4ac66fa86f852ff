"""Memory of scoring and writing does not grow with the number of users."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from uuid import uuid4

import psycopg
import pytest

from tests.faults.stub import Child
from tests.faults.tally import Tally

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

SIZES, SIZES_LARGE = (20_000, 200_000), (1_000_000, 10_000_000)
MORE = 1.05
"""1.10 is promised; what keeps five rows of each user takes more than this."""


def test_ten_times_the_users_take_no_more_memory(
    postgres_server: str, processes: ForkServerContext, faults_large: bool, tally: Tally
) -> None:
    """On PostgreSQL, because SQLite keeps up to 64 MB of its file in memory, which the smaller number does not fill."""
    peaks = []
    sizes = SIZES_LARGE if faults_large else SIZES
    with tally("memory of scoring, ten times the users") as line:
        for users in sizes:
            name = f"memory_{uuid4().hex}"
            with psycopg.connect(postgres_server.format(name="postgres"), autocommit=True) as admin:
                admin.execute(f'CREATE DATABASE "{name}"')
                try:
                    child = Child(processes, "tests.faults.scoring:score", postgres_server.format(name=name), users)
                    assert child.ended(timeout=3600) == 0, child.said[-1:]
                finally:
                    admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            peaks.append(child.said[-1])
        line.notes.append(", ".join(f"{users:,} users {peak:.0f} MB" for users, peak in zip(sizes, peaks, strict=True)))
        assert peaks[1] <= MORE * peaks[0], f"{peaks} MB for {sizes} users"
